// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/backup/applier.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "engine/replica/chunk.h"
#include "engine/replica/format_error.h"
#include "engine/replica/frame.h"
#include "engine/replica/ram_run.h"

namespace haven {
namespace {

// Calls piece(address, bytes) for the parts of a run that lie in one stretch of mapped memory.
template <typename Piece>
void ForEachPiece(const GuestMemory& memory, Gfn first, uint64_t pages, const Piece& piece) {
  while (pages > 0) {
    const uint64_t to_chunk_end =
        GuestMemory::kChunkPages - (first & (GuestMemory::kChunkPages - 1));
    const uint64_t count = std::min(pages, to_chunk_end);
    piece(memory.Page(first), static_cast<size_t>(count) * kPageBytes);
    first += count;
    pages -= count;
  }
}

void CopyRun(const GuestMemory& memory, const Frame& run) {
  const std::byte* from = run.body.data();
  ForEachPiece(memory, run.first_gfn(), run.count, [&from](std::byte* to, size_t bytes) {
    std::memcpy(to, from, bytes);
    from += bytes;
  });
}

// A look whether the page is zero already would cost about as much as clearing it.
void ClearRun(const GuestMemory& memory, const Frame& run) {
  ForEachPiece(memory, run.first_gfn(), run.count,
               [](std::byte* to, size_t bytes) { std::memset(to, 0, bytes); });
}

[[gnu::cold]] absl::Status ChangedError(const VerifiedEpoch& epoch, uint32_t chunk, uint32_t slot,
                                        const absl::Status& cause) {
  return absl::DataLossError(absl::StrCat(
      "epoch ", epoch.epoch(), " chunk ", chunk, " slot ", slot,
      ": the journal changed after the acknowledgement, the replica is lost: ", cause.message()));
}

[[gnu::cold]] absl::Status ReusedError(uint32_t verified_crc, uint32_t chunk_crc) {
  return CrcError("chunk header", "the chunk's CRC as verified", verified_crc, chunk_crc);
}

}  // namespace

absl::Status Applier::ApplyChunk(const VerifiedEpoch& epoch, uint32_t chunk,
                                 const Tools& tools) const {
  const uint32_t slot_number = epoch.record.placement.ChunkSlot(geometry_, chunk);
  const absl::Status applied = ApplySlot(slot_number, epoch.slot_crcs[slot_number], tools);
  if (!applied.ok()) return ChangedError(epoch, chunk, slot_number, applied);
  return applied;
}

absl::Status Applier::ApplySlot(uint32_t slot_number, uint32_t verified_crc,
                                const Tools& tools) const {
  const std::span<const std::byte> slot =
      region_.subspan(geometry_.SlotOffset(slot_number), geometry_.slot_bytes);
  ChunkHeader header;
  uint32_t chunk_crc = 0;
  HAVEN_RETURN_IF_ERROR(DecodeChunkHeader(slot, &header, &chunk_crc));
  if (chunk_crc != verified_crc) return ReusedError(verified_crc, chunk_crc);
  if (tools.opener == nullptr) return ApplyPlain(slot, header, verified_crc, tools.coded.get());
  // A copy that nobody else writes, and that is what was verified: the tag is part of the header.
  const absl::StatusOr<std::span<const std::byte>> plain =
      tools.opener->Open(header, ChunkPayload(slot, header));
  return plain.ok() ? ApplyFrames(*plain, tools.coded.get()) : plain.status();
}

absl::Status Applier::ApplyPlain(std::span<const std::byte> slot, const ChunkHeader& verified,
                                 uint32_t verified_crc, CodedFrameApplier* coded) const {
  ChunkHeader header = verified;
  uint32_t chunk_crc = 0;
  const std::span<const std::byte> payload = ChunkPayload(slot, header);
  HAVEN_RETURN_IF_ERROR(ApplyFrames(payload, coded));
  // What changed while we copied is found by looking after the copy: at the payload, which is in
  // the cache now, and at the header, as whoever reuses a slot brings one of his own. The loads
  // stay in this order: the compiler must not move them, x86 does not.
  std::atomic_signal_fence(std::memory_order_acquire);
  if (recheck_crc_) {
    const uint32_t payload_crc = Crc32c(payload);
    if (payload_crc != header.payload_crc) {
      return CrcError("chunk header", "payload_crc", header.payload_crc, payload_crc);
    }
  }
  HAVEN_RETURN_IF_ERROR(DecodeChunkHeader(slot, &header, &chunk_crc));
  if (chunk_crc != verified_crc) return ReusedError(verified_crc, chunk_crc);
  return absl::OkStatus();
}

// The same bounds as EpochValidator: whatever the peer writes meanwhile, only RAM pages are
// touched.
absl::Status Applier::ApplyFrames(std::span<const std::byte> payload,
                                  CodedFrameApplier* coded) const {
  FrameCursor cursor(payload);
  Frame frame;
  while (cursor.Next(&frame)) {
    // The state store has its copy of the states from the verification.
    if (frame.type == FrameType::kState) continue;
    if (frame.domain >= memories_.size()) {
      return FieldError("run", "domain", frame.domain, "below", memories_.size());
    }
    HAVEN_RETURN_IF_ERROR(frame.type == FrameType::kCodedPages ? ApplyCoded(frame, coded)
                                                               : ApplyRun(frame));
  }
  return cursor.status();
}

absl::Status Applier::ApplyRun(const Frame& frame) const {
  const GuestMemory& memory = *memories_[frame.domain];
  const Gfn not_ram = FirstNotRam(memory, frame.first_gfn(), frame.count);
  if (not_ram != frame.first_gfn() + frame.count) {
    return FieldError("run", "frame number", not_ram, "RAM of domain", frame.domain);
  }
  if (frame.type == FrameType::kRawRun) {
    CopyRun(memory, frame);
  } else {
    ClearRun(memory, frame);
  }
  return absl::OkStatus();
}

// What the pages refer to is not written by this epoch, and the epochs before it are applied: so
// their order, and what other threads do meanwhile, do not matter (engine/codec/coded_page.h).
absl::Status Applier::ApplyCoded(const Frame& frame, CodedFrameApplier* coded) const {
  if (coded == nullptr) {
    return FieldError("run", "type", static_cast<uint8_t>(frame.type),
                      "1, 2 or 3: no coded pages were agreed on");
  }
  return coded->Apply({.first_gfn = static_cast<uint32_t>(frame.first_gfn()),
                       .count = frame.count,
                       .body = frame.body},
                      frame.domain, memories_);
}

}  // namespace haven
