// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "engine/base/byte_order.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "engine/replica/chunk.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"
#include "engine/replica/frame.h"
#include "engine/replica/section.h"

namespace haven {
namespace {

constexpr char kWhat[] = "chunk header";
constexpr uint32_t kMagic = SectionMagic('C', 'K');
// Bits of the flags.
constexpr uint16_t kSealedFlag = 1;
// Behind the kind: reserved, or what of the tag does not stand in the place of the payload's CRC.
constexpr size_t kTailBytes = 14;
constexpr size_t kReservedBehindTag = 2;
constexpr size_t kTagHeadBytes = sizeof(uint32_t);
static_assert(kTagHeadBytes + kTailBytes - kReservedBehindTag == kSealTagBytes);

absl::Status CheckHeader(const ChunkHeader& header, uint16_t kind, size_t slot_bytes) {
  if (!IsKnownEpochKind(kind)) return FieldError(kWhat, "kind", kind, "1 (sync) or 2 (checkpoint)");
  if (header.identity.session == kNoSession) return FieldError(kWhat, "session", 0, "at least 1");
  if (header.identity.link == kNoLink) return FieldError(kWhat, "link", 0, "at least 1");
  if (header.identity.epoch == kNoEpoch) return FieldError(kWhat, "epoch", 0, "at least 1");
  if (header.payload_bytes > slot_bytes - kChunkHeaderBytes) {
    return FieldError(kWhat, "payload_bytes", header.payload_bytes, "at most",
                      slot_bytes - kChunkHeaderBytes);
  }
  if (header.payload_bytes == 0 || header.payload_bytes % kFrameAlignment != 0) {
    return FieldError(kWhat, "payload_bytes", header.payload_bytes, "a positive multiple of",
                      kFrameAlignment);
  }
  const uint32_t max_frames = header.payload_bytes / uint32_t{kFrameHeaderBytes};
  if (header.frame_count == 0 || header.frame_count > max_frames) {
    return FieldError(kWhat, "frame_count", header.frame_count, "1 ..", max_frames);
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t EncodeChunkHeader(const ChunkHeader& header, std::span<std::byte, kChunkHeaderBytes> out) {
  ByteWriter writer(out);
  writer.PutU32(kMagic);
  writer.PutU16(kFormatVersion);
  writer.PutU16(header.sealed ? kSealedFlag : uint16_t{0});
  writer.PutU64(header.identity.session);
  writer.PutU32(header.identity.link);
  writer.PutU32(header.identity.index);
  writer.PutU64(header.identity.epoch);
  writer.PutU32(header.payload_bytes);
  writer.PutU32(header.frame_count);
  const std::span<const std::byte> tag = header.tag;
  if (header.sealed) {
    writer.PutBytes(tag.first(kTagHeadBytes));
  } else {
    writer.PutU32(header.payload_crc);
  }
  writer.PutU16(static_cast<uint16_t>(header.identity.kind));
  if (header.sealed) writer.PutBytes(tag.subspan(kTagHeadBytes));
  writer.PutZeros(header.sealed ? kReservedBehindTag : kTailBytes);
  return SealSection(out);
}

absl::Status DecodeChunkHeader(std::span<const std::byte> slot, ChunkHeader* out,
                               uint32_t* chunk_crc) {
  std::array<std::byte, kChunkHeaderBytes> copy;
  HAVEN_RETURN_IF_ERROR(SnapshotSection(kWhat, kMagic, slot, copy));
  ByteReader reader(copy);
  reader.Skip(sizeof(uint32_t) + sizeof(uint16_t));  // Magic and version.
  ChunkHeader header;
  const uint16_t flags = reader.GetU16();
  if (flags > kSealedFlag) return FieldError(kWhat, "flags", flags, "0 or 1 (sealed)");
  header.sealed = flags == kSealedFlag;
  header.identity.session = reader.GetU64();
  header.identity.link = reader.GetU32();
  header.identity.index = reader.GetU32();
  header.identity.epoch = reader.GetU64();
  header.payload_bytes = reader.GetU32();
  header.frame_count = reader.GetU32();
  if (header.sealed) {
    std::ranges::copy(reader.GetBytes(kTagHeadBytes), header.tag.begin());
  } else {
    header.payload_crc = reader.GetU32();
  }
  const uint16_t kind = reader.GetU16();
  if (header.sealed) {
    std::ranges::copy(reader.GetBytes(kSealTagBytes - kTagHeadBytes),
                      header.tag.begin() + kTagHeadBytes);
  }
  HAVEN_RETURN_IF_ERROR(
      CheckReserved(kWhat, reader, header.sealed ? kReservedBehindTag : kTailBytes));
  HAVEN_RETURN_IF_ERROR(CheckHeader(header, kind, slot.size()));
  header.identity.kind = static_cast<EpochKind>(kind);
  *out = header;
  *chunk_crc = reader.GetU32();
  return absl::OkStatus();
}

void EpochTotals::Add(const ChunkTotals& chunk) {
  std::array<std::byte, sizeof(uint32_t)> crc_bytes;
  StoreLe32(crc_bytes.data(), chunk.chunk_crc);
  chunk_count += 1;
  payload_bytes += chunk.payload_bytes;
  frame_count += chunk.frame_count;
  page_count += chunk.page_count;
  chunks_crc = ExtendCrc32c(chunks_crc, crc_bytes);
}

}  // namespace haven
