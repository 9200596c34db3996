// SPDX-License-Identifier: Apache-2.0
//
// A view of one domain's physical memory as this process has mapped it.
#ifndef HAVEN_ENGINE_REPLICA_GUEST_MEMORY_H_
#define HAVEN_ENGINE_REPLICA_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/replica/identity.h"

namespace haven {

// The whole of one domain's memory, mapped once in chunks of equal size and seen by frame number.
// Does not own the mapping: whoever mapped it (a Domain or a ReplicaDomain) keeps it valid for this
// object's life and unmaps it afterwards. Immutable after construction, so any thread may read it.
class GuestMemory {
 public:
  // log2 of the pages in one chunk: 64 Mi bytes, small enough for one foreign mapping call.
  static constexpr unsigned kChunkShift = 14;
  static constexpr uint64_t kChunkPages = uint64_t{1} << kChunkShift;

  GuestMemory() = default;

  // `chunks[i]` is the address of frame i * kChunkPages, or nullptr where nothing is mapped.
  // `ram` has one bit a frame, lowest bit first: set if the frame is RAM that belongs to an epoch
  // (mapped, and not a special page of the toolstack). `page_count` is the number of frames, the
  // highest frame number plus one; `ram` must have at least (page_count + 63) / 64 words.
  GuestMemory(std::vector<std::byte*> chunks, std::vector<uint64_t> ram, uint64_t page_count)
      : chunks_(std::move(chunks)), ram_(std::move(ram)), page_count_(page_count) {}

  // Highest frame number plus one: the size of dirty bitmaps in bits.
  uint64_t page_count() const { return page_count_; }

  // Words of 64 bits in a bitmap of this domain.
  size_t bitmap_words() const { return static_cast<size_t>((page_count_ + 63) / 64); }

  // One bit a frame: RAM that takes part in epochs.
  const std::vector<uint64_t>& ram_bitmap() const { return ram_; }

  // True if `gfn` exists, is mapped and takes part in epochs. Any value of `gfn` is allowed.
  bool IsRam(Gfn gfn) const {
    return gfn < page_count_ && ((ram_[gfn >> 6] >> (gfn & 63)) & 1) != 0;
  }

  // Address of a frame for which IsRam() holds.
  std::byte* Page(Gfn gfn) const {
    return chunks_[gfn >> kChunkShift] + (gfn & (kChunkPages - 1)) * kPageBytes;
  }

 private:
  std::vector<std::byte*> chunks_;
  std::vector<uint64_t> ram_;
  uint64_t page_count_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_GUEST_MEMORY_H_
