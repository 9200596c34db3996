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
  // Files of this host that the copy's device model reads whenever it starts; empty: none.
  std::string kernel;
  std::string ramdisk;

  std::string WaitingName() const { return name + "--incoming"; }
};

// Takes the original's configuration (an element of `xl list -l`, or its "config") and puts in what
// is different here. `json` comes from the network; `device_model`: the description says that the
// guest has one. InvalidArgument: it is no such JSON, has no name, a NIC whose MAC address is none,
// a device model that the description has not or the other way round, or a control
// character in a name or a text, or a setting that makes the toolstack or a device model of the
// copy do more than the original's (xen/base/hvm_config.h). Unimplemented: the guest is of a type
// whose copies can not be built.
absl::StatusOr<GuestConfig> MapGuestConfig(absl::string_view json, const XenReplicaOptions& options,
                                           bool device_model = false);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_GUEST_CONFIG_H_
