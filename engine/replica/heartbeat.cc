// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/heartbeat.h"

#include <array>

#include "absl/strings/string_view.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"
#include "engine/replica/section.h"

namespace haven {
namespace {

constexpr size_t kReservedBytes = 28;

constexpr uint32_t MagicOf(HeartbeatSender sender) {
  return sender == HeartbeatSender::kPrimary ? SectionMagic('H', 'P') : SectionMagic('H', 'B');
}

constexpr absl::string_view NameOf(HeartbeatSender sender) {
  return sender == HeartbeatSender::kPrimary ? "primary heartbeat" : "backup heartbeat";
}

}  // namespace

bool IsKnownState(HeartbeatSender sender, uint32_t state) {
  return state >= 1 && state <= (sender == HeartbeatSender::kPrimary
                                     ? static_cast<uint32_t>(PrimaryState::kDeposed)
                                     : static_cast<uint32_t>(BackupState::kFailed));
}

void EncodeHeartbeat(HeartbeatSender sender, const Heartbeat& heartbeat,
                     std::span<std::byte, kHeartbeatBytes> out) {
  ByteWriter writer(out);
  writer.PutU32(MagicOf(sender));
  writer.PutU16(kFormatVersion);
  writer.PutU16(0);
  writer.PutU64(heartbeat.session);
  writer.PutU32(heartbeat.link);
  writer.PutU32(heartbeat.state);
  writer.PutU64(heartbeat.counter);
  writer.PutZeros(kReservedBytes);
  SealSection(out);
}

absl::Status DecodeHeartbeat(HeartbeatSender sender, std::span<const std::byte> in,
                             Heartbeat* out) {
  const absl::string_view what = NameOf(sender);
  std::array<std::byte, kHeartbeatBytes> copy;
  HAVEN_RETURN_IF_ERROR(SnapshotSection(what, MagicOf(sender), in, copy));
  ByteReader reader(copy);
  reader.Skip(sizeof(uint32_t) + sizeof(uint16_t));  // Magic and version.
  HAVEN_RETURN_IF_ERROR(CheckReserved(what, reader, 2));
  Heartbeat heartbeat;
  heartbeat.session = reader.GetU64();
  heartbeat.link = reader.GetU32();
  heartbeat.state = reader.GetU32();
  heartbeat.counter = reader.GetU64();
  HAVEN_RETURN_IF_ERROR(CheckReserved(what, reader, kReservedBytes));
  if (heartbeat.session == kNoSession) return FieldError(what, "session", 0, "at least 1");
  if (heartbeat.link == kNoLink) return FieldError(what, "link", 0, "at least 1");
  if (!IsKnownState(sender, heartbeat.state)) {
    return FieldError(what, "state", heartbeat.state, "a known state");
  }
  if (heartbeat.counter == 0) return FieldError(what, "counter", 0, "at least 1");
  *out = heartbeat;
  return absl::OkStatus();
}

}  // namespace haven
