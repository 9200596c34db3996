// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_HANDSHAKE_H_
#define HAVEN_TRANSPORT_SHM_HANDSHAKE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/shm/deadline.h"
#include "transport/shm/peer_process.h"

namespace haven {

enum class HandshakeSide { kConnector, kAcceptor };

struct HandshakeResult {
  std::shared_ptr<const PeerProcess> peer;
  // One end of a second connection to the same peer, over which descriptors travel (rendezvous.h).
  UniqueFd rendezvous;
};

// The first exchange on a connected stream socket; both sides run it. In turn:
//
//   hello      protocol version; from the connector also the acceptor's end of the second
//   connection challenge  16 random bytes response   the peer's challenge, returned
//
// each stamped by the kernel with its sender's pid and uid (SCM_CREDENTIALS). SO_PEERCRED alone
// would name the process that called listen(2), which is not the one that serves the session, and a
// pid may have passed to another process by the time it is looked up. So: the pid on the hello is
// opened as a pidfd, only then the challenge is sent, and a response with the same pid proves that
// this pid was alive after the pidfd was opened. If the pidfd's process still lives when the
// response has been read, it had that pid all the time, and so it is the sender. (Root may forge
// the stamp; it needs no trick to harm us.)
//
// PermissionDenied: the peer runs as another user, its pid is not visible from here, or it is not
// the process that it was; DataLoss: it does not speak this protocol; FailedPrecondition: another
// version of it; DeadlineExceeded; Unavailable: it has closed, which is also how the peer's refusal
// looks.
absl::StatusOr<HandshakeResult> RunHandshake(int socket, HandshakeSide side,
                                             const ShmDeadline& deadline);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_HANDSHAKE_H_
