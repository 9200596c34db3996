// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_control_channel.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "transport/shm/socket_io.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x4d435648;  // "HVCM"

}  // namespace

ShmControlChannel::ShmControlChannel(UniqueFd socket, HandshakeResult handshake,
                                     std::string address)
    : socket_(std::move(socket)),
      peer_(std::move(handshake.peer)),
      rendezvous_(std::move(handshake.rendezvous)),
      address_(std::move(address)) {}

absl::StatusOr<std::unique_ptr<ShmControlChannel>> ShmControlChannel::Open(
    UniqueFd socket, HandshakeSide side, const ShmDeadline& deadline, std::string address) {
  HAVEN_RETURN_IF_ERROR(CheckUnixSocket(socket.get(), SOCK_STREAM));
  // It may have come through execve(2), for which the flag had to be off.
  if (fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "FD_CLOEXEC on the control socket");
  }
  absl::StatusOr<HandshakeResult> handshake = RunHandshake(socket.get(), side, deadline);
  if (!handshake.ok()) {
    return absl::Status(handshake.status().code(),
                        absl::StrCat(address, ": handshake: ", handshake.status().message()));
  }
  return std::unique_ptr<ShmControlChannel>(
      new ShmControlChannel(std::move(socket), *std::move(handshake), std::move(address)));
}

std::string ShmControlChannel::Describe() const {
  return absl::StrCat(address_, " pid ", peer_->pid());
}

absl::Status ShmControlChannel::Break(const absl::Status& cause) {
  broken_ = absl::Status(cause.code(), absl::StrCat(Describe(), ": ", cause.message()));
  return broken_;
}

absl::Status ShmControlChannel::Send(std::span<const std::byte> message, absl::Duration timeout) {
  HAVEN_RETURN_IF_ERROR(broken_);
  if (message.empty() || message.size() > kMaxMessageBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a control message has 1 to ", kMaxMessageBytes,
                                                   " bytes, not ", message.size()));
  }
  std::array<std::byte, kHeaderBytes> header;
  ByteWriter writer(header);
  writer.PutU32(kMagic);
  writer.PutU32(static_cast<uint32_t>(message.size()));
  const ShmDeadline deadline(timeout);
  absl::Status sent = SendAll(socket_.get(), header, deadline);
  if (sent.ok()) sent = SendAll(socket_.get(), message, deadline);
  return sent.ok() ? sent : Break(sent);
}

absl::StatusOr<bool> ShmControlChannel::Fill(std::span<std::byte> room, size_t& filled) {
  while (filled < room.size()) {
    // No descriptors belong here; those that come are closed at once.
    HAVEN_ASSIGN_OR_RETURN(const std::optional<ReceivedPiece> piece,
                           ReceivePiece(socket_.get(), room.subspan(filled)));
    if (!piece.has_value()) return false;
    filled += piece->bytes;
  }
  return true;
}

absl::Status ShmControlChannel::StartMessage() {
  ByteReader reader(header_);
  const uint32_t magic = reader.GetU32();
  const uint32_t bytes = reader.GetU32();
  if (magic != kMagic) {
    return absl::DataLossError(absl::StrCat("a control message starts with ", absl::Hex(magic),
                                            " where ", absl::Hex(kMagic), " belongs"));
  }
  if (bytes == 0 || bytes > kMaxMessageBytes) {
    return absl::DataLossError(absl::StrCat("a control message claims ", bytes, " bytes; 1 to ",
                                            kMaxMessageBytes, " are allowed"));
  }
  message_.resize(bytes);
  message_filled_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<std::byte>>> ShmControlChannel::Receive() {
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
