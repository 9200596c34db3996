// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/control_message.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x43475648;  // "HVGC"
constexpr uint16_t kVersion = 1;
constexpr size_t kHeaderBytes = 4 + 2 + 2 + 8 + 4 + 2 + 2 + 8 * GuestMessage::kValues;
static_assert(kHeaderBytes + GuestMessage::kMaxPayloadBytes <= kGuestMessageBytes);

absl::Status Bad(absl::string_view field, uint64_t value) {
  return absl::InvalidArgumentError(
      absl::StrCat("control message of a synthetic guest: ", field, " is ", value));
}

}  // namespace

absl::string_view GuestMessage::text() const {
  return {reinterpret_cast<const char*>(payload_room.data()), payload_bytes};
}

void GuestMessage::SetText(absl::string_view text) {
  const size_t bytes = std::min(text.size(), kMaxPayloadBytes);
  std::memcpy(payload_room.data(), text.data(), bytes);
  payload_bytes = static_cast<uint16_t>(bytes);
}

void GuestMessage::SetError(const absl::Status& status) {
  code = status.code();
  SetText(status.message());
}

void EncodeGuestMessage(const GuestMessage& message, std::span<std::byte> out) {
  HAVEN_CHECK_EQ(out.size(), kGuestMessageBytes);
  ByteWriter writer(out);
  writer.PutU32(kMagic);
  writer.PutU16(kVersion);
  writer.PutU16(static_cast<uint16_t>(message.op));
  writer.PutU64(message.id);
  writer.PutU32(static_cast<uint32_t>(message.code));
  writer.PutU16(message.payload_bytes);
  writer.PutU16(0);
  for (const uint64_t value : message.values) writer.PutU64(value);
  writer.PutBytes(message.payload());
  writer.PutZeros(writer.remaining());
  HAVEN_CHECK(writer.ok());
}

absl::Status DecodeGuestMessage(std::span<const std::byte> bytes, GuestMessage& message) {
  if (bytes.size() != kGuestMessageBytes) return Bad("size", bytes.size());
  ByteReader reader(bytes);
  const uint32_t magic = reader.GetU32();
  if (magic != kMagic) return Bad("magic", magic);
  const uint16_t version = reader.GetU16();
  if (version != kVersion) return Bad("version", version);
  const uint16_t op = reader.GetU16();
  if (op == 0 || op > kMaxGuestOp) return Bad("operation", op);
  message.op = static_cast<GuestOp>(op);
  message.id = reader.GetU64();
  const uint32_t code = reader.GetU32();
  if (code > static_cast<uint32_t>(absl::StatusCode::kUnauthenticated)) return Bad("code", code);
  message.code = static_cast<absl::StatusCode>(code);
  message.payload_bytes = reader.GetU16();
  if (message.payload_bytes > GuestMessage::kMaxPayloadBytes) {
    return Bad("payload length", message.payload_bytes);
  }
  const uint16_t reserved = reader.GetU16();
  if (reserved != 0) return Bad("reserved field", reserved);
  for (uint64_t& value : message.values) value = reader.GetU64();
  const std::span<const std::byte> payload = reader.GetBytes(message.payload_bytes);
  HAVEN_CHECK(reader.ok());
  std::copy(payload.begin(), payload.end(), message.payload_room.begin());
  return absl::OkStatus();
}

}  // namespace haven
