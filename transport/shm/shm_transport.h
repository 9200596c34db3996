// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SHM_TRANSPORT_H_
#define HAVEN_TRANSPORT_SHM_SHM_TRANSPORT_H_

#include <memory>

#include "transport/endpoint.h"

namespace haven {

// Two processes of one host and one user: messages over Unix sockets ("unix:/path", or "unix:@name"
// for an abstract socket), memory in memfds, permission to write ended by killing the writer
// (shm_link.h). Nothing of it has a name in /dev/shm or elsewhere but the listening socket.
//
// The contract behind Revoke: the process that runs the handshake, and only it, writes. Which one
// that is, the handshake finds out by itself, so a listener may hand an accepted socket to the
// process that serves the session, by fork(2), execve(2) or SCM_RIGHTS. From then on that process
// passes nothing of the channel or the endpoint on; mappings do not survive its fork(2),
// descriptors not its execve(2).
//
// Stateless and thread-safe; what it makes is used as endpoint.h says. Errors besides those there:
// PermissionDenied (the peer is another user's process), DataLoss (it does not speak this
// protocol), FailedPrecondition (another version of it), AlreadyExists from Listen (the address is
// taken), InvalidArgument (a malformed address; a channel or endpoint of another transport).
class ShmTransport final : public Transport {
 public:
  absl::StatusOr<std::unique_ptr<Listener>> Listen(absl::string_view address) override;
  absl::StatusOr<std::unique_ptr<ControlChannel>> Connect(absl::string_view address,
                                                          absl::Duration timeout) override;
  absl::StatusOr<std::unique_ptr<ControlChannel>> Adopt(int fd, absl::Duration timeout) override;
  absl::StatusOr<std::unique_ptr<Endpoint>> MakeEndpoint(ControlChannel& channel) override;
  absl::Status Attach(Endpoint& endpoint, ControlChannel& channel) override;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SHM_TRANSPORT_H_
