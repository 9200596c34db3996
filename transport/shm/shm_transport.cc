// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_transport.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"
#include "transport/shm/deadline.h"
#include "transport/shm/handshake.h"
#include "transport/shm/shm_control_channel.h"
#include "transport/shm/shm_endpoint.h"
#include "transport/shm/shm_listener.h"
#include "transport/shm/unix_address.h"

namespace haven {
namespace {

absl::Status ConnectError(int error, const ShmAddress& address) {
  const std::string where = absl::StrCat("connect to ", address.text());
  switch (error) {
    case ENOENT:
      return absl::UnavailableError(absl::StrCat(
          where, ": there is no such socket; is the backup running, with this address?"));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat(where, ": nobody listens there; has the backup been stopped or killed?"));
    case EAGAIN:
    case EINTR:
      return absl::DeadlineExceededError(
          absl::StrCat(where, ": the backup does not take new connections; does it hang?"));
    default:
      return absl::ErrnoToStatus(error, where);
  }
}

// Waiting for room in the backlog is not a matter of poll(2) with Unix sockets, only of
// SO_SNDTIMEO.
absl::StatusOr<UniqueFd> ConnectSocket(const ShmAddress& address, const ShmDeadline& deadline) {
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return absl::ErrnoToStatus(errno, "socket");
  // Zero would mean "for ever".
  const timeval patience =
      absl::ToTimeval(std::max<absl::Duration>(deadline.Remaining(), absl::Milliseconds(1)));
  if (setsockopt(socket_fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0) {
    return absl::ErrnoToStatus(errno, "SO_SNDTIMEO");
  }
  if (connect(socket_fd.get(), address.raw(), address.raw_bytes()) != 0) {
    return ConnectError(errno, address);
  }
  return socket_fd;
}

absl::StatusOr<ShmControlChannel*> AsShm(ControlChannel& channel) {
  auto* shm = dynamic_cast<ShmControlChannel*>(&channel);
  if (shm != nullptr) return shm;
  return absl::InvalidArgumentError(
      absl::StrCat(channel.Describe(), " is not a channel of the shm transport"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> ShmTransport::Listen(absl::string_view address) {
  return ShmListener::Listen(address);
}

absl::StatusOr<std::unique_ptr<ControlChannel>> ShmTransport::Connect(absl::string_view address,
                                                                      absl::Duration timeout) {
  const ShmDeadline deadline(timeout);
  HAVEN_ASSIGN_OR_RETURN(const ShmAddress parsed, ShmAddress::Parse(address));
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket_fd, ConnectSocket(parsed, deadline));
  return ShmControlChannel::Open(std::move(socket_fd), HandshakeSide::kConnector, deadline,
                                 parsed.text());
}

absl::StatusOr<std::unique_ptr<ControlChannel>> ShmTransport::Adopt(int fd,
                                                                    absl::Duration timeout) {
  UniqueFd socket_fd(fd);
  std::string address = ShmAddress::OfSocket(socket_fd.get());
  return ShmControlChannel::Open(std::move(socket_fd), HandshakeSide::kAcceptor,
                                 ShmDeadline(timeout), std::move(address));
}

absl::StatusOr<std::unique_ptr<Endpoint>> ShmTransport::MakeEndpoint(ControlChannel& channel) {
  HAVEN_ASSIGN_OR_RETURN(ShmControlChannel* const shm, AsShm(channel));
  return ShmEndpoint::Make(*shm);
}

absl::Status ShmTransport::Attach(Endpoint& endpoint, ControlChannel& channel) {
  HAVEN_ASSIGN_OR_RETURN(ShmControlChannel* const shm, AsShm(channel));
  auto* shm_endpoint = dynamic_cast<ShmEndpoint*>(&endpoint);
  if (shm_endpoint == nullptr) {
    return absl::InvalidArgumentError("this endpoint is not one of the shm transport");
  }
  return shm_endpoint->Attach(*shm);
}

}  // namespace haven
