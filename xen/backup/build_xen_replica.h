// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_BUILD_XEN_REPLICA_H_
#define HAVEN_XEN_BACKUP_BUILD_XEN_REPLICA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/replica/control_message.h"
#include "xen/backup/replica_host.h"
#include "xen/backup/replica_options.h"
#include "xen/backup/xen_replica.h"

namespace haven {

// Builds the waiting copy of a guest whose `config` is a description of description.h, by `xl
// migrate-receive`. Blocks, for options.build_timeout at most, and for options.destroy_timeout to
// take down what was begun.
// InvalidArgument: the description is not sound, or does not fit `domain`. Unimplemented: a guest
// of a type that can not be copied. AlreadyExists: there is a waiting copy of this name.
// FailedPrecondition: a bridge, or a file that the guest boots from, is missing, this host's QEMU
// is of another version than the original's, or the toolstack failed, with what it said.
// ResourceExhausted: the host has too little memory. DeadlineExceeded. Unavailable: the toolstack
// can not be started, or this host runs no Xen.
absl::StatusOr<std::unique_ptr<XenReplica>> BuildXenReplica(std::unique_ptr<ReplicaHost> host,
                                                            const HelloDomain& domain,
                                                            const XenReplicaOptions& options);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_BUILD_XEN_REPLICA_H_
