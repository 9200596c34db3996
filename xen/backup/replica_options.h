// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_REPLICA_OPTIONS_H_
#define HAVEN_XEN_BACKUP_REPLICA_OPTIONS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace haven {

// What is different for copies of guests on this host, and how they are built.
struct XenReplicaOptions {
  std::string name;                            // Of the copy once it runs; empty: the original's.
  std::map<std::string, std::string> bridges;  // The original's bridge: the one here.
  std::map<std::string, std::string> disks;    // The original's path or device: the one here.

  std::vector<std::string> toolstack = {"xl"};         // The command, found along PATH.
  absl::Duration build_timeout = absl::Seconds(60);    // Of a small guest's whole build.
  absl::Duration destroy_timeout = absl::Seconds(30);  // Of the toolstack's own destruction.
};

// The operator's words for the first three: "name=web1-b,bridge:xenbr0=br0,disk:/dev/vg/a=/dev/b",
// any number of them, or "". InvalidArgument names a word that is none, is empty or there twice.
absl::StatusOr<XenReplicaOptions> ParseXenReplicaOptions(absl::string_view words);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_REPLICA_OPTIONS_H_
