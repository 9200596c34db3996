// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/peer_block.h"

#include <array>

#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"
#include "engine/replica/section.h"

namespace haven {
namespace {

constexpr char kWhat[] = "acknowledgement";
constexpr uint32_t kMagic = SectionMagic('A', 'K');
constexpr size_t kReservedBytes = 68;

absl::Status CheckAck(const Ack& ack, uint32_t state) {
  if (ack.session == kNoSession) return FieldError(kWhat, "session", 0, "at least 1");
  if (ack.link == kNoLink) return FieldError(kWhat, "link", 0, "at least 1");
  if (!IsKnownState(HeartbeatSender::kBackup, state)) {
    return FieldError(kWhat, "state", state, "a known state");
  }
  if (ack.applied_epoch > ack.committed_epoch) {
    return FieldError(kWhat, "applied_epoch", ack.applied_epoch, "at most committed_epoch,",
                      ack.committed_epoch);
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeAck(const Ack& ack, std::span<std::byte, kAckBytes> out) {
  ByteWriter writer(out);
  writer.PutU32(kMagic);
  writer.PutU16(kFormatVersion);
  writer.PutU16(0);
  writer.PutU64(ack.session);
  writer.PutU32(ack.link);
  writer.PutU32(static_cast<uint32_t>(ack.state));
  writer.PutU64(ack.committed_epoch);
  writer.PutU64(ack.applied_epoch);
  writer.PutU64(ack.ring_tail);
  writer.PutU64(ack.credits_granted);
  writer.PutZeros(kReservedBytes);
  SealSection(out);
}

absl::Status DecodeAck(std::span<const std::byte> in, Ack* out) {
  std::array<std::byte, kAckBytes> copy;
  HAVEN_RETURN_IF_ERROR(SnapshotSection(kWhat, kMagic, in, copy));
  ByteReader reader(copy);
  reader.Skip(sizeof(uint32_t) + sizeof(uint16_t));  // Magic and version.
  HAVEN_RETURN_IF_ERROR(CheckReserved(kWhat, reader, 2));
  Ack ack;
  ack.session = reader.GetU64();
  ack.link = reader.GetU32();
  const uint32_t state = reader.GetU32();
  ack.committed_epoch = reader.GetU64();
  ack.applied_epoch = reader.GetU64();
  ack.ring_tail = reader.GetU64();
  ack.credits_granted = reader.GetU64();
  HAVEN_RETURN_IF_ERROR(CheckReserved(kWhat, reader, kReservedBytes));
  HAVEN_RETURN_IF_ERROR(CheckAck(ack, state));
  ack.state = static_cast<BackupState>(state);
  *out = ack;
  return absl::OkStatus();
}

}  // namespace haven
