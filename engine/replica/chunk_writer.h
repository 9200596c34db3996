// SPDX-License-Identifier: Apache-2.0
//
// Builds one chunk in place, in the staging slot from which it is sent.
#ifndef HAVEN_ENGINE_REPLICA_CHUNK_WRITER_H_
#define HAVEN_ENGINE_REPLICA_CHUNK_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/replica/chunk.h"
#include "engine/replica/frame.h"
#include "engine/replica/identity.h"

namespace haven {

// Appends frames to a slot. The Append functions only lay out headers and hand out room, so pages
// may be copied into their runs later and by several threads; Finish() comes after all copies. The
// caller keeps the order that frame.h states: the writer does not check it, EpochValidator does.
// Not thread-safe, does not allocate, does not own the slot.
class ChunkWriter {
 public:
  // A writer without a slot: everything is full. Reset() gives it one.
  ChunkWriter() = default;

  // `slot` is a whole slot: more than kChunkHeaderBytes, at most kMaxSlotBytes (checked).
  explicit ChunkWriter(std::span<std::byte> slot) { Reset(slot); }

  // Starts over, empty, in `slot`.
  void Reset(std::span<std::byte> slot);

  // Most pages that the next AppendRawRun() can take; 0 if not even one.
  uint32_t raw_pages_left() const;

  // Most bytes that the next AppendState() can take; 0 if none.
  uint32_t state_bytes_left() const;

  // True if the next AppendZeroRun() fits.
  bool zero_run_fits() const { return bytes_left() >= kFrameHeaderBytes; }

  bool empty() const { return totals_.frame_count == 0; }

  // Appends a run of `pages` >= 1 pages from `first` on and returns the room for them
  // (pages * kPageBytes bytes), to be filled before Finish(). An empty span, and nothing appended,
  // if it does not fit.
  [[nodiscard]] std::span<std::byte> AppendRawRun(uint16_t domain, Gfn first, uint32_t pages);

  // Appends a run of `pages` >= 1 pages that are all zero. False, and nothing appended, if it does
  // not fit.
  [[nodiscard]] bool AppendZeroRun(uint16_t domain, Gfn first, uint32_t pages);

  // Appends the fragment at `offset` of a domain's state of `total` bytes; at least one byte,
  // within the total. False, and nothing appended, if it does not fit.
  [[nodiscard]] bool AppendState(uint16_t domain, uint32_t offset, uint32_t total,
                                 std::span<const std::byte> fragment);

  // Appends `pages` coded pages from `first` on, whose encoding is `body` (engine/codec). False,
  // and nothing appended, if it does not fit.
  [[nodiscard]] bool AppendCoded(uint16_t domain, uint32_t first, uint32_t pages,
                                 std::span<const std::byte> body);

  // Computes the CRCs and writes the header; at least one frame was appended (checked). The chunk
  // is the first kChunkHeaderBytes + payload_bytes bytes of the slot. The writer can not append any
  // more until Reset().
  ChunkTotals Finish(const ChunkIdentity& identity);

 private:
  size_t bytes_left() const { return slot_.size() - used_; }
  std::span<std::byte> AppendFrame(FrameType type, uint16_t domain, uint32_t count, uint64_t value,
                                   size_t body_bytes);

  std::span<std::byte> slot_;
  size_t used_ = 0;  // Bytes of the slot that are taken, the chunk's header included.
  ChunkTotals totals_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CHUNK_WRITER_H_
