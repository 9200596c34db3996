// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/rendezvous.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "transport/shm/socket_io.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x56524448;  // "HDRV"
constexpr size_t kRecordBytes = 4 + 2 + kTokenBytes;

// How many descriptors a packet of this kind carries; nullopt if there is no such kind.
std::optional<size_t> FdsOf(uint16_t kind) {
  switch (static_cast<RendezvousKind>(kind)) {
    case RendezvousKind::kRegion:
      return 1;
    case RendezvousKind::kLink:
      return 2;
    case RendezvousKind::kConnected:
      return 0;
  }
  return std::nullopt;
}

}  // namespace

Rendezvous::Rendezvous(UniqueFd socket, absl::string_view peer_name)
    : socket_(std::move(socket)), peer_name_(peer_name) {}

absl::Status Rendezvous::Break(absl::Status cause) {
  broken_ = std::move(cause);
  unclaimed_.clear();
  return broken_;
}

absl::Status Rendezvous::Send(RendezvousKind kind, const Token& token, std::span<const int> fds,
                              const ShmDeadline& deadline) {
  HAVEN_RETURN_IF_ERROR(broken_);
  HAVEN_CHECK_EQ(fds.size(), *FdsOf(static_cast<uint16_t>(kind)));
  std::array<std::byte, kRecordBytes> record;
  ByteWriter writer(record);
  writer.PutU32(kMagic);
  writer.PutU16(static_cast<uint16_t>(kind));
  writer.PutBytes(token);
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const size_t sent, SendPiece(socket_.get(), record, {.fds = fds}));
    if (sent > 0) return absl::OkStatus();
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(socket_.get(), POLLOUT, deadline));
    if (!ready) {
      return absl::DeadlineExceededError(
          absl::StrCat(peer_name_, " does not take the descriptors that were sent to it"));
    }
  }
}

absl::Status Rendezvous::Store(std::span<const std::byte> record, std::vector<UniqueFd> fds,
                               bool cut) {
  ByteReader reader(record);
  const uint32_t magic = reader.GetU32();
  const uint16_t kind = reader.GetU16();
  Token token{};
  std::ranges::copy(reader.GetBytes(kTokenBytes), token.begin());
  if (!reader.done() || magic != kMagic || cut || FdsOf(kind) != fds.size()) {
    return absl::DataLossError(absl::StrCat(
        peer_name_, " sent a malformed rendezvous packet: magic ", absl::Hex(magic), ", kind ",
        kind, ", ", fds.size(), " descriptors",
        cut ? " and more (or RLIMIT_NOFILE is reached here)" : "", ", ", record.size(), " bytes"));
  }
  if (unclaimed_.size() == kMaxUnclaimed) {
    return absl::DataLossError(absl::StrCat(peer_name_, " sent more than ", kMaxUnclaimed,
                                            " rendezvous packets that nobody has asked for"));
  }
  unclaimed_.push_back({static_cast<RendezvousKind>(kind), token, std::move(fds)});
  return absl::OkStatus();
}

absl::Status Rendezvous::Drain() {
  HAVEN_RETURN_IF_ERROR(broken_);
  // Ends: each round stores a packet, of which there is a largest number, or returns.
  while (!hung_up_) {
    // One byte more than a record, to notice a longer packet.
    std::array<std::byte, kRecordBytes + 1> room;
    absl::StatusOr<std::optional<ReceivedPiece>> piece = ReceivePiece(socket_.get(), room);
    if (absl::IsUnavailable(piece.status())) {
      hung_up_ = true;
      break;
    }
    if (!piece.ok()) return Break(piece.status());
    if (!piece->has_value()) break;
    ReceivedPiece& received = **piece;
    const absl::Status stored =
        Store(std::span(room).first(received.bytes), std::move(received.fds), received.cut);
    if (!stored.ok()) return Break(stored);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<UniqueFd>>> Rendezvous::Claim(RendezvousKind kind,
                                                                       const Token& token) {
  HAVEN_RETURN_IF_ERROR(Drain());
  const auto found = std::ranges::find_if(unclaimed_, [&](const Packet& packet) {
    return packet.kind == kind && packet.token == token;
  });
  if (found == unclaimed_.end()) return std::optional<std::vector<UniqueFd>>();
  std::optional<std::vector<UniqueFd>> fds(std::move(found->fds));
  unclaimed_.erase(found);
  return fds;
}

absl::Status Rendezvous::Await(RendezvousKind kind, const Token& token,
                               const ShmDeadline& deadline) {
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<std::vector<UniqueFd>> fds, Claim(kind, token));
    if (fds.has_value()) return absl::OkStatus();
    if (hung_up_) {
      return absl::UnavailableError(absl::StrCat(peer_name_, " has closed the connection"));
    }
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(socket_.get(), POLLIN, deadline));
    if (!ready) {
      return absl::DeadlineExceededError(
          absl::StrCat(peer_name_, " has not connected to the link that was prepared for it"));
    }
  }
}

}  // namespace haven
