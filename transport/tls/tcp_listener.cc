// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/tcp_listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

absl::Status ListenError(int error, const InetAddress& address) {
  const std::string where = absl::StrCat("listen at ", address.ToString());
  if (error == EADDRINUSE) {
    return absl::AlreadyExistsError(
        absl::StrCat(where, ": another process listens there; stop it or choose another port"));
  }
  if (error == EADDRNOTAVAIL) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": this host does not have that address"));
  }
  return absl::ErrnoToStatus(error, where);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpListener>> TcpListener::Listen(const InetAddress& address,
                                                                 std::string prefix) {
  UniqueFd socket_fd(
      socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!socket_fd) return absl::ErrnoToStatus(errno, "socket");
  const int on = 1;
  const int silent_seconds = kSilentSeconds;
  if (setsockopt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      setsockopt(socket_fd.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &silent_seconds,
                 sizeof(silent_seconds)) != 0 ||
      bind(socket_fd.get(), address.sockaddr_ptr(), address.sockaddr_bytes()) != 0 ||
      listen(socket_fd.get(), kBacklog) != 0) {
    return ListenError(errno, address);
  }
  HAVEN_ASSIGN_OR_RETURN(const InetAddress bound, InetAddress::LocalOf(socket_fd.get()));
  return std::unique_ptr<TcpListener>(
      new TcpListener(std::move(socket_fd), bound, std::move(prefix)));
}

absl::StatusOr<std::optional<int>> TcpListener::Accept() {
  for (;;) {
    const int fd = accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return fd;
    switch (errno) {
      case EAGAIN:
        return std::nullopt;
      // This one has already gone away (accept(2)); the next may be there.
      case EINTR:
      case ECONNABORTED:
      case EPROTO:
      case ENETDOWN:
      case EHOSTUNREACH:
      case ENETUNREACH:
        continue;
      default:
        return absl::ErrnoToStatus(errno, absl::StrCat("accept at ", address()));
    }
  }
}

}  // namespace haven
