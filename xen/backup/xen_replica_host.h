// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_XEN_REPLICA_HOST_H_
#define HAVEN_XEN_BACKUP_XEN_REPLICA_HOST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "xen/backup/replica_host.h"

namespace haven {

// ReplicaHost by libxenctrl, libxenforeignmemory, libxenstore and a packet socket. Unavailable:
// this host runs no Xen, or this process may not use it.
absl::StatusOr<std::unique_ptr<ReplicaHost>> OpenReplicaHost();

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_XEN_REPLICA_HOST_H_
