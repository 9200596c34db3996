// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_GUEST_CONFIG_H_
#define HAVEN_XEN_BACKUP_GUEST_CONFIG_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "xen/backup/replica_options.h"

namespace haven {

struct GuestNic {
  std::array<uint8_t, 6> mac = {};
  std::string bridge;  // On this host; empty: it is on none.
};

// The toolstack's configuration of a copy, as it is on this host.
struct GuestConfig {
  std::string name;  // Once it runs; the toolstack calls it NAME--incoming until then.
  std::string json;  // For `xl migrate-receive`.
  std::vector<GuestNic> nics;
};

// Takes the original's configuration (an element of `xl list -l`, or its "config") and puts in what
// is different here. `json` comes from the network. InvalidArgument: it is no such JSON, has no
// name, or a NIC whose MAC address is none. Unimplemented: the guest is of a type whose copies can
// not be built.
absl::StatusOr<GuestConfig> MapGuestConfig(absl::string_view json,
                                           const XenReplicaOptions& options);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_GUEST_CONFIG_H_
