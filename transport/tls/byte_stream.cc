// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/byte_stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr int kKeepIdleSeconds = 10;
constexpr int kKeepIntervalSeconds = 5;
constexpr int kKeepProbes = 3;
constexpr int kUserTimeoutMs = 25'000;
// Whoever sends waits for no round trip: a message goes into the kernel's buffer as a whole, with
// those that a peer behind a cut link has not acknowledged yet. The kernel gives what it allows.
constexpr int kSendBufferBytes = 1 << 20;

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::StatusOr<Progress> Read(std::span<std::byte> room) override {
    for (;;) {
      const ssize_t got = recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
      if (got > 0) return Progress{.bytes = static_cast<size_t>(got)};
      if (got == 0) return absl::UnavailableError("the peer has closed the connection");
      if (errno == EAGAIN) return Progress{.wait = Wait::kReadable};
      if (errno != EINTR) return StreamError(errno, "recv");
    }
  }

  absl::StatusOr<Progress> Write(std::span<const std::byte> bytes) override {
    for (;;) {
      const ssize_t sent =
          send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) return Progress{.bytes = static_cast<size_t>(sent)};
      if (errno == EAGAIN) return Progress{.wait = Wait::kWritable};
      if (errno != EINTR) return StreamError(errno, "send");
    }
  }

  int fd() const override { return socket_.get(); }
  std::string PeerName() const override { return ""; }

 private:
  const UniqueFd socket_;
};

absl::Status SetOption(int socket, int level, int option, int value, absl::string_view name) {
  if (setsockopt(socket, level, option, &value, sizeof(value)) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, name);
}

}  // namespace

std::unique_ptr<ByteStream> MakePlainStream(UniqueFd socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

absl::StatusOr<bool> Fill(ByteStream& stream, std::span<std::byte> room, size_t& filled) {
  while (filled < room.size()) {
    HAVEN_ASSIGN_OR_RETURN(const ByteStream::Progress got, stream.Read(room.subspan(filled)));
    filled += got.bytes;
    if (got.wait != ByteStream::Wait::kNothing) return false;
  }
  return true;
}

absl::Status PrepareSocket(int socket) {
  const int flags = fcntl(socket, F_GETFL);
  // It may have come through execve(2), for which FD_CLOEXEC had to be off.
  if (flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(socket, F_SETFD, FD_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "fcntl of a control socket");
  }
  HAVEN_RETURN_IF_ERROR(SetOption(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  HAVEN_RETURN_IF_ERROR(SetOption(socket, SOL_SOCKET, SO_SNDBUF, kSendBufferBytes, "SO_SNDBUF"));
  HAVEN_RETURN_IF_ERROR(SetOption(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  HAVEN_RETURN_IF_ERROR(
      SetOption(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds, "TCP_KEEPIDLE"));
  HAVEN_RETURN_IF_ERROR(
      SetOption(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds, "TCP_KEEPINTVL"));
  HAVEN_RETURN_IF_ERROR(SetOption(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes, "TCP_KEEPCNT"));
  return SetOption(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs, "TCP_USER_TIMEOUT");
}

absl::Status StreamError(int error, absl::string_view call) {
  switch (error) {
    case EPIPE:
    case ECONNRESET:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
      return absl::UnavailableError(
          absl::StrCat("the connection is lost: ", call, ": ", std::strerror(error)));
    default:
      return absl::ErrnoToStatus(error, call);
  }
}

}  // namespace haven
