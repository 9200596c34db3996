// SPDX-License-Identifier: Apache-2.0
//
// Where in the page cache a block with a given content was seen last.
#ifndef HAVEN_ENGINE_CODEC_BLOCK_INDEX_H_
#define HAVEN_ENGINE_CODEC_BLOCK_INDEX_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace haven {

// A hint and nothing more: an entry may be outdated or stem from another hash. Who uses it compares
// the bytes and looks whether the slot is stable. That makes it cheap: one word an entry, the
// newest block wins, entries are never removed, threads read and write without order. Memory is
// allocated at construction.
class BlockIndex {
 public:
  static constexpr uint32_t kNone = 0;

  // Room for about `blocks` blocks; 0: an index that finds nothing.
  explicit BlockIndex(size_t blocks)
      : bits_(Bits(blocks)),
        entries_(blocks == 0 ? nullptr : new std::atomic<uint32_t>[size_t{1} << bits_]()) {}

  // What one for so many blocks takes, before there is one.
  static size_t MemoryFor(size_t blocks) {
    return blocks == 0 ? 0 : sizeof(uint32_t) << Bits(blocks);
  }

  // What Put() was last given for this hash or for one that shares its entry; kNone if nothing.
  uint32_t Find(uint64_t hash) const {
    return entries_ == nullptr ? kNone : entries_[Entry(hash)].load(std::memory_order_relaxed);
  }

  // `where` is not kNone.
  void Put(uint64_t hash, uint32_t where) {
    if (entries_ != nullptr) entries_[Entry(hash)].store(where, std::memory_order_relaxed);
  }

  size_t memory_bytes() const { return entries_ == nullptr ? 0 : sizeof(uint32_t) << bits_; }

 private:
  static unsigned Bits(size_t blocks) {
    return blocks == 0 ? 0 : static_cast<unsigned>(std::bit_width(std::bit_ceil(blocks) - 1));
  }
  size_t Entry(uint64_t hash) const {
    return static_cast<size_t>(hash & ((uint64_t{1} << bits_) - 1));
  }

  unsigned bits_;
  std::unique_ptr<std::atomic<uint32_t>[]> entries_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_BLOCK_INDEX_H_
