// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/tls_control_channel.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

absl::Status ConnectError(int error, const InetAddress& address) {
  const std::string where = absl::StrCat("connect to ", address.ToString());
  if (error == ECONNREFUSED) {
    return absl::UnavailableError(
        absl::StrCat(where, ": nobody listens there; is the backup running, with this address?"));
  }
  // Nobody has said that nobody is there: it may be the way.
  return absl::DeadlineExceededError(absl::StrCat(where, ": ",
                                                  absl::ErrnoToStatus(error, "").message(),
                                                  "; check the address and the network"));
}

absl::StatusOr<UniqueFd> ConnectSocket(const InetAddress& address, const NetDeadline& deadline) {
  UniqueFd socket_fd(
      socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!socket_fd) return absl::ErrnoToStatus(errno, "socket");
  if (connect(socket_fd.get(), address.sockaddr_ptr(), address.sockaddr_bytes()) == 0) {
    return socket_fd;
  }
  if (errno != EINPROGRESS && errno != EINTR) return ConnectError(errno, address);
  HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(socket_fd.get(), POLLOUT, deadline));
  if (!ready) {
    return absl::DeadlineExceededError(absl::StrCat("connect to ", address.ToString(),
                                                    ": no answer; is the host up and reachable?"));
  }
  int error = 0;
  socklen_t bytes = sizeof(error);
  if (getsockopt(socket_fd.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  if (error != 0) return ConnectError(error, address);
  return socket_fd;
}

}  // namespace

absl::StatusOr<Incarnation> MakeIncarnation() {
  Incarnation incarnation;
  // So few bytes are never delivered in part, nor interrupted by a signal.
  if (getrandom(incarnation.data(), incarnation.size(), GRND_NONBLOCK) !=
      static_cast<ssize_t>(incarnation.size())) {
    return absl::ErrnoToStatus(errno, "getrandom");
  }
  return incarnation;
}

absl::StatusOr<std::unique_ptr<TlsControlChannel>> TlsControlChannel::Open(
    UniqueFd socket, StreamSide side, std::shared_ptr<const Credentials> credentials,
    const Incarnation& own, const NetDeadline& deadline, std::string name) {
  HAVEN_RETURN_IF_ERROR(PrepareSocket(socket.get()));
  HAVEN_ASSIGN_OR_RETURN(const InetAddress local, InetAddress::LocalOf(socket.get()));
  const auto failed = [&name](const absl::Status& cause) {
    return absl::Status(cause.code(), absl::StrCat(name, ": ", cause.message()));
  };
  const bool over_tls = !credentials->insecure();
  std::unique_ptr<ByteStream> stream;
  if (!over_tls) {
    stream = MakePlainStream(std::move(socket));
  } else {
    absl::StatusOr<std::unique_ptr<ByteStream>> secure =
        MakeSecureStream(std::move(socket), side, std::move(credentials), deadline);
    if (!secure.ok()) return failed(secure.status());
    stream = *std::move(secure);
  }
  std::unique_ptr<TlsControlChannel> channel(new TlsControlChannel(std::move(stream), local, name));
  const absl::Status greeted = channel->Greet(own, side, over_tls, deadline);
  if (!greeted.ok()) return failed(greeted);
  return channel;
}

absl::StatusOr<std::unique_ptr<TlsControlChannel>> TlsControlChannel::Connect(
    const InetAddress& address, std::shared_ptr<const Credentials> credentials,
    const Incarnation& own, const NetDeadline& deadline, std::string name) {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket, ConnectSocket(address, deadline));
  absl::StatusOr<std::unique_ptr<TlsControlChannel>> channel =
      Open(std::move(socket), StreamSide::kConnector, std::move(credentials), own, deadline,
           std::move(name));
  // Somebody was there, and may be again: a process that is busy turns connections away.
  if (absl::IsUnavailable(channel.status())) return absl::AbortedError(channel.status().message());
  return channel;
}

absl::Status TlsControlChannel::Greet(const Incarnation& own, StreamSide side, bool over_tls,
                                      const NetDeadline& deadline) {
  const Greeting ours = EncodeGreeting(own);
  // Over TLS the acceptor speaks first: it has authenticated its peer by then, and a connector that
  // it turns away has left nothing unread that would make the kernel drop the reason. Without TLS
  // the connector does, for which the listener waits.
  const bool speaks_first = (side == StreamSide::kAcceptor) == over_tls;
  if (speaks_first) HAVEN_RETURN_IF_ERROR(SendAll(ours, deadline));
  Greeting theirs;
  HAVEN_RETURN_IF_ERROR(ReceiveAll(theirs, deadline));
  HAVEN_ASSIGN_OR_RETURN(peer_, DecodeGreeting(theirs));
  if (!speaks_first) HAVEN_RETURN_IF_ERROR(SendAll(ours, deadline));
  return absl::OkStatus();
}

absl::StatusOr<ChannelKey> TlsControlChannel::ExportKey(uint64_t context) const {
  ChannelKey key;
  if (!stream_->secure()) return ControlChannel::ExportKey(context);
  std::array<std::byte, sizeof(context)> bytes;
  StoreLe64(bytes.data(), context);
  HAVEN_RETURN_IF_ERROR(stream_->ExportSecret(bytes, key));
  return key;
}

std::string TlsControlChannel::Describe() const {
  const std::string peer = stream_->PeerName();
  return peer.empty() ? name_ : absl::StrCat(name_, " node ", peer);
}

absl::Status TlsControlChannel::Break(const absl::Status& cause) {
  broken_ = absl::Status(cause.code(), absl::StrCat(Describe(), ": ", cause.message()));
  return broken_;
}

absl::Status TlsControlChannel::SendAll(std::span<const std::byte> bytes,
                                        const NetDeadline& deadline) {
  while (!bytes.empty()) {
    HAVEN_ASSIGN_OR_RETURN(const ByteStream::Progress sent, stream_->Write(bytes));
    bytes = bytes.subspan(sent.bytes);
    if (sent.wait == ByteStream::Wait::kNothing) continue;
    const short events = sent.wait == ByteStream::Wait::kReadable ? POLLIN : POLLOUT;
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(stream_->fd(), events, deadline));
    if (!ready) return absl::DeadlineExceededError("the peer does not read; does it hang?");
  }
  return absl::OkStatus();
}

absl::Status TlsControlChannel::ReceiveAll(std::span<std::byte> room, const NetDeadline& deadline) {
  size_t filled = 0;
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const bool full, Fill(*stream_, room, filled));
    if (full) return absl::OkStatus();
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(stream_->fd(), POLLIN, deadline));
    if (!ready) return absl::DeadlineExceededError("the peer does not say who it is in time");
  }
}

absl::Status TlsControlChannel::Send(std::span<const std::byte> message, absl::Duration timeout) {
  HAVEN_RETURN_IF_ERROR(broken_);
  if (message.empty() || message.size() > kMaxMessageBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a control message has 1 to ", kMaxMessageBytes,
                                                   " bytes, not ", message.size()));
  }
  // In one piece: a record for each message, as long as it is small.
  EncodeFrame(message, outgoing_);
  const absl::Status sent = SendAll(outgoing_, NetDeadline(timeout));
  return sent.ok() ? sent : Break(sent);
}

absl::StatusOr<std::optional<std::vector<std::byte>>> TlsControlChannel::Receive() {
  HAVEN_RETURN_IF_ERROR(broken_);
  absl::StatusOr<std::optional<std::vector<std::byte>>> message = incoming_.Read(*stream_);
  if (!message.ok()) return Break(message.status());
  return message;
}

}  // namespace haven
