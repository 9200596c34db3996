// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_FEED_TOOLSTACK_H_
#define HAVEN_XEN_BACKUP_FEED_TOOLSTACK_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/control/time_limit.h"
#include "xen/backup/guest_config.h"
#include "xen/backup/held_device_model.h"
#include "xen/backup/replica_host.h"
#include "xen/backup/toolstack_child.h"
#include "xen/base/description.h"

namespace haven {

// A copy that the toolstack has finished and keeps.
struct FedCopy {
  uint32_t domid = 0;
  std::unique_ptr<HeldDeviceModel> device_model;  // It waits; null: the guest has none.
};

// Talks to `toolstack`, an `xl migrate-receive`, until it says that the copy is complete. After an
// error it has to be taken down with what it has begun. FailedPrecondition: this host's QEMU is of
// another version than the original's; errors of ToolstackChild, of the host and of
// HeldDeviceModel.
absl::StatusOr<FedCopy> FeedToolstack(ReplicaHost& host, ToolstackChild& toolstack,
                                      const XenDescription& description, const GuestConfig& config,
                                      const TimeLimit& limit);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_FEED_TOOLSTACK_H_
