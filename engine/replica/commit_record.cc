// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/commit_record.h"

#include <array>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"
#include "engine/replica/frame.h"
#include "engine/replica/section.h"

namespace haven {
namespace {

constexpr char kWhat[] = "commit record";
constexpr uint32_t kMagic = SectionMagic('C', 'R');

absl::Status CheckNames(const CommitRecord& record, uint16_t kind) {
  if (!IsKnownEpochKind(kind)) return FieldError(kWhat, "kind", kind, "1 (sync) or 2 (checkpoint)");
  if (record.session == kNoSession) return FieldError(kWhat, "session", 0, "at least 1");
  if (record.link == kNoLink) return FieldError(kWhat, "link", 0, "at least 1");
  if (record.epoch == kNoEpoch) return FieldError(kWhat, "epoch", 0, "at least 1");
  if (record.base_epoch >= record.epoch) {
    return FieldError(kWhat, "base_epoch", record.base_epoch, "below epoch,", record.epoch);
  }
  if (record.domain_count < 1 || record.domain_count > kMaxDomains) {
    return FieldError(kWhat, "domain_count", record.domain_count, "1 ..", kMaxDomains);
  }
  return absl::OkStatus();
}

// Whether so many chunks can hold that much. What they do hold is EpochValidator's to say.
absl::Status CheckTotals(const CommitRecord& record, const JournalGeometry& geometry) {
  const EpochTotals& totals = record.totals;
  const uint64_t max_payload =
      uint64_t{totals.chunk_count} * (geometry.slot_bytes - kChunkHeaderBytes);
  if (totals.payload_bytes > max_payload) {
    return FieldError(kWhat, "payload_bytes", totals.payload_bytes, "at most", max_payload);
  }
  if (totals.payload_bytes % kFrameAlignment != 0) {
    return FieldError(kWhat, "payload_bytes", totals.payload_bytes, "a multiple of",
                      kFrameAlignment);
  }
  if (totals.frame_count > totals.payload_bytes / kFrameHeaderBytes) {
    return FieldError(kWhat, "frame_count", totals.frame_count, "at most",
                      totals.payload_bytes / kFrameHeaderBytes);
  }
  uint64_t min_frames = totals.chunk_count;
  if (record.kind == EpochKind::kCheckpoint && min_frames < record.domain_count) {
    min_frames = record.domain_count;
  }
  if (totals.frame_count < min_frames) {
    return FieldError(kWhat, "frame_count", totals.frame_count, "at least", min_frames);
  }
  const uint64_t max_pages =
      totals.frame_count == 0 ? 0 : uint64_t{record.domain_count} * kMaxDomainPages;
  if (totals.page_count > max_pages) {
    return FieldError(kWhat, "page_count", totals.page_count, "at most", max_pages);
  }
  if (totals.chunk_count == 0 && totals.chunks_crc != 0) {
    return FieldError(kWhat, "chunks_crc", totals.chunks_crc, "0 without a chunk");
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeCommitRecord(const CommitRecord& record, std::span<std::byte, kCommitRecordBytes> out) {
  HAVEN_CHECK_LE(record.placement.extent_count, kMaxEpochExtents) << "epoch=" << record.epoch;
  ByteWriter writer(out);
  writer.PutU32(kMagic);
  writer.PutU16(kFormatVersion);
  writer.PutU16(static_cast<uint16_t>(record.kind));
  writer.PutU32(0);
  writer.PutU32(record.link);
  writer.PutU64(record.session);
  writer.PutU64(record.epoch);
  writer.PutU64(record.base_epoch);
  writer.PutU64(record.placement.first_position);
  writer.PutU32(record.placement.ring_slots_used);
  writer.PutU32(record.totals.chunk_count);
  writer.PutU64(record.totals.payload_bytes);
  writer.PutU64(record.totals.frame_count);
  writer.PutU64(record.totals.page_count);
  writer.PutU16(record.domain_count);
  writer.PutU16(static_cast<uint16_t>(record.placement.extent_count));
  writer.PutU32(record.totals.chunks_crc);
  for (const uint32_t extent : record.placement.extents) writer.PutU32(extent);
  writer.PutU32(0);
  SealSection(out);
}

absl::Status DecodeCommitRecord(std::span<const std::byte> in, const JournalGeometry& geometry,
                                CommitRecord* out) {
  std::array<std::byte, kCommitRecordBytes> copy;
  HAVEN_RETURN_IF_ERROR(SnapshotSection(kWhat, kMagic, in, copy));
  ByteReader reader(copy);
  reader.Skip(sizeof(uint32_t) + sizeof(uint16_t));  // Magic and version.
  const uint16_t kind = reader.GetU16();
  HAVEN_RETURN_IF_ERROR(CheckReserved(kWhat, reader, 4));
  CommitRecord record;
  record.link = reader.GetU32();
  record.session = reader.GetU64();
  record.epoch = reader.GetU64();
  record.base_epoch = reader.GetU64();
  record.placement.first_position = reader.GetU64();
  record.placement.ring_slots_used = reader.GetU32();
  record.totals.chunk_count = reader.GetU32();
  record.totals.payload_bytes = reader.GetU64();
  record.totals.frame_count = reader.GetU64();
  record.totals.page_count = reader.GetU64();
  record.domain_count = reader.GetU16();
  record.placement.extent_count = reader.GetU16();
  record.totals.chunks_crc = reader.GetU32();
  for (uint32_t& extent : record.placement.extents) extent = reader.GetU32();
  HAVEN_RETURN_IF_ERROR(CheckReserved(kWhat, reader, 4));
  HAVEN_RETURN_IF_ERROR(CheckNames(record, kind));
  record.kind = static_cast<EpochKind>(kind);
  if (const absl::Status placed = record.placement.Validate(geometry, record.totals.chunk_count);
      !placed.ok()) {
    return At(kWhat, placed);
  }
  HAVEN_RETURN_IF_ERROR(CheckTotals(record, geometry));
  *out = record;
  return absl::OkStatus();
}

}  // namespace haven
