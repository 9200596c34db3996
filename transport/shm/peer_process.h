// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_PEER_PROCESS_H_
#define HAVEN_TRANSPORT_SHM_PEER_PROCESS_H_

#include <sys/types.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"

namespace haven {

// The process at the other end, held by a pidfd (pidfd_open(2)), which never comes to mean another
// process. Thread-safe.
//
// The proof of a cut-off. A pidfd reports death when the last thread of the process has left user
// mode for good and given up its memory; a store of the process to shared memory happens before
// that or never. It covers the one process: the engine keeps its mappings and descriptors to itself
// (MADV_DONTFORK, close-on-exec) and has no kernel I/O of its own in flight into them.
class PeerProcess {
 public:
  // The process that has this pid now; handshake.h shows how to be sure that it is the right one.
  // Unavailable: there is none. PermissionDenied: this process may not kill it, so it could not be
  // cut off. ResourceExhausted: no descriptor left.
  static absl::StatusOr<std::shared_ptr<const PeerProcess>> Open(pid_t pid);

  pid_t pid() const { return pid_; }
  // Becomes readable when the process is dead. Stays owned here.
  int fd() const { return pidfd_.get(); }
  bool IsDead() const;

  // Kills the process and waits until it is dead. OK if it was dead before. FailedPrecondition: it
  // is this very process. DeadlineExceeded: it is not dead yet. Any error means: no proof.
  absl::Status Kill(absl::Duration timeout) const;

 private:
  PeerProcess(pid_t pid, UniqueFd pidfd);

  const pid_t pid_;
  const UniqueFd pidfd_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_PEER_PROCESS_H_
