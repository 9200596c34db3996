// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/tls_control_channel.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr uint32_t kMessageMagic = 0x4d435648;   // "HVCM"
constexpr uint32_t kGreetingMagic = 0x47435648;  // "HVCG"
constexpr uint16_t kVersion = 1;
constexpr size_t kGreetingBytes = 4 + 2 + 2 + kIncarnationBytes;

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
  std::array<std::byte, kGreetingBytes> room;
  ByteWriter writer(room);
  writer.PutU32(kGreetingMagic);
  writer.PutU16(kVersion);
  writer.PutU16(0);
  writer.PutBytes(own);
  // Over TLS the acceptor speaks first: it has authenticated its peer by then, and a connector that
  // it turns away has left nothing unread that would make the kernel drop the reason. Without TLS
  // the connector does, for which the listener waits.
  const bool speaks_first = (side == StreamSide::kAcceptor) == over_tls;
  if (speaks_first) HAVEN_RETURN_IF_ERROR(SendAll(room, deadline));
  std::array<std::byte, kGreetingBytes> theirs;
  HAVEN_RETURN_IF_ERROR(ReceiveAll(theirs, deadline));
  ByteReader reader(theirs);
  const uint32_t magic = reader.GetU32();
  const uint16_t version = reader.GetU16();
  reader.Skip(2);
  std::ranges::copy(reader.GetBytes(kIncarnationBytes), peer_.begin());
  if (magic != kGreetingMagic) {
    return absl::DataLossError(
        "the peer does not speak this protocol; is --insecure set on one side only?");
  }
  if (version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer speaks version ", version, " of the control channel, this process ",
                     kVersion, "; run the same release on both sides"));
  }
  if (!speaks_first) HAVEN_RETURN_IF_ERROR(SendAll(room, deadline));
  return absl::OkStatus();
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
    HAVEN_ASSIGN_OR_RETURN(const bool full, Fill(room, filled));
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
  // In one piece, so that no record of TLS holds parts of two messages: what is left of a record
  // would not make the socket readable.
  outgoing_.resize(kHeaderBytes + message.size());
  ByteWriter writer(outgoing_);
  writer.PutU32(kMessageMagic);
  writer.PutU32(static_cast<uint32_t>(message.size()));
  writer.PutBytes(message);
  const absl::Status sent = SendAll(outgoing_, NetDeadline(timeout));
  return sent.ok() ? sent : Break(sent);
}

absl::StatusOr<bool> TlsControlChannel::Fill(std::span<std::byte> room, size_t& filled) {
  while (filled < room.size()) {
    HAVEN_ASSIGN_OR_RETURN(const ByteStream::Progress got, stream_->Read(room.subspan(filled)));
    filled += got.bytes;
    if (got.wait != ByteStream::Wait::kNothing) return false;
  }
  return true;
}

absl::Status TlsControlChannel::StartMessage() {
  ByteReader reader(header_);
  const uint32_t magic = reader.GetU32();
  const uint32_t bytes = reader.GetU32();
  if (magic != kMessageMagic) {
    return absl::DataLossError(absl::StrCat("a control message starts with ", absl::Hex(magic),
                                            " where ", absl::Hex(kMessageMagic), " belongs"));
  }
  if (bytes == 0 || bytes > kMaxMessageBytes) {
    return absl::DataLossError(absl::StrCat("a control message claims ", bytes, " bytes; 1 to ",
                                            kMaxMessageBytes, " are allowed"));
  }
  message_.resize(bytes);
  message_filled_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<std::byte>>> TlsControlChannel::Receive() {
  HAVEN_RETURN_IF_ERROR(broken_);
  if (message_.empty()) {
    const absl::StatusOr<bool> header = Fill(header_, header_filled_);
    if (!header.ok()) return Break(header.status());
    if (!*header) return std::nullopt;
    const absl::Status sound = StartMessage();
    if (!sound.ok()) return Break(sound);
  }
  const absl::StatusOr<bool> whole = Fill(message_, message_filled_);
  if (!whole.ok()) return Break(whole.status());
  if (!*whole) return std::nullopt;
  header_filled_ = 0;
  return std::exchange(message_, {});
}

}  // namespace haven
