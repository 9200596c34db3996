// SPDX-License-Identifier: Apache-2.0
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
constexpr size_t kReservedBytes = 14;

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
  writer.PutU16(0);
  writer.PutU64(header.identity.session);
  writer.PutU32(header.identity.link);
  writer.PutU32(header.identity.index);
  writer.PutU64(header.identity.epoch);
  writer.PutU32(header.payload_bytes);
  writer.PutU32(header.frame_count);
  writer.PutU32(header.payload_crc);
  writer.PutU16(static_cast<uint16_t>(header.identity.kind));
  writer.PutZeros(kReservedBytes);
  return SealSection(out);
}

absl::Status DecodeChunkHeader(std::span<const std::byte> slot, ChunkHeader* out,
                               uint32_t* chunk_crc) {
  std::array<std::byte, kChunkHeaderBytes> copy;
  HAVEN_RETURN_IF_ERROR(SnapshotSection(kWhat, kMagic, slot, copy));
  ByteReader reader(copy);
  reader.Skip(sizeof(uint32_t) + sizeof(uint16_t));  // Magic and version.
  HAVEN_RETURN_IF_ERROR(CheckReserved(kWhat, reader, 2));
  ChunkHeader header;
  header.identity.session = reader.GetU64();
  header.identity.link = reader.GetU32();
  header.identity.index = reader.GetU32();
  header.identity.epoch = reader.GetU64();
  header.payload_bytes = reader.GetU32();
  header.frame_count = reader.GetU32();
  header.payload_crc = reader.GetU32();
  const uint16_t kind = reader.GetU16();
  HAVEN_RETURN_IF_ERROR(CheckReserved(kWhat, reader, kReservedBytes));
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
