// SPDX-License-Identifier: Apache-2.0
//
// The last acknowledged version of pages, as many as fit a budget.
#ifndef HAVEN_ENGINE_CODEC_PAGE_CACHE_H_
#define HAVEN_ENGINE_CODEC_PAGE_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/mutant.h"
#include "engine/replica/identity.h"

namespace haven {

// A slot holds one page. What an epoch writes is *claimed* before it is encoded; the encoder puts
// the new version in place of the old one and says so; the acknowledgement makes it the baseline, a
// failure empties the slot. So the bytes of a slot that is not claimed are what the replica holds.
//
// Claim(), Acknowledge(), Fail() and Forget() are called by one thread while no other uses the
// cache. In between, any thread may read slots that are not claimed, and each claimed slot belongs
// to the thread that encodes its page. All memory is allocated at construction.
class PageCache {
 public:
  static constexpr uint32_t kNoSlot = UINT32_MAX;

  // `page_counts`: one entry a domain. `slots`: pages kept; 0 keeps none. Uses 4 bytes a guest page
  // and kPageBytes + 16 a slot.
  PageCache(std::span<const uint64_t> page_counts, uint32_t slots);

  // What one of these arguments takes, before there is one.
  static size_t MemoryFor(std::span<const uint64_t> page_counts, uint32_t slots);

  // Called with a slot that is about to lose its page: (domain, gfn, bytes).
  using Evicted = std::function<void(uint16_t, uint32_t, const std::byte*)>;

  // Gives a page that the epoch writes a slot: its own, a free one, or that of a page that was not
  // written for long. False: none found, the page is not cached.
  bool Claim(uint16_t domain, uint32_t gfn, const Evicted& evicted);

  // The slot of a page, or kNoSlot.
  uint32_t Find(uint16_t domain, uint32_t gfn) const { return slot_of_[domain][gfn]; }

  // True if a claimed slot holds the version before this epoch, not encoded yet.
  bool HasBaseline(uint32_t slot) const { return slots_[slot].state == State::kClaimed; }
  // True if the replica holds what the slot holds, and the epoch leaves the page alone.
  bool IsStable(uint32_t slot) const {
    return slots_[slot].state == State::kStable || HAVEN_MUTANT(kReferToWritten);
  }
  // After the new version was put into a claimed slot.
  void SetEncoded(uint32_t slot) { slots_[slot].encoded = true; }

  std::byte* Bytes(uint32_t slot) { return pages_[slot].bytes.data(); }
  const std::byte* Bytes(uint32_t slot) const { return pages_[slot].bytes.data(); }
  uint16_t domain(uint32_t slot) const { return slots_[slot].domain; }
  uint32_t gfn(uint32_t slot) const { return slots_[slot].gfn; }
  uint32_t slots() const { return static_cast<uint32_t>(slots_.size()); }

  // The replica holds all claimed pages as they were encoded; one that was not is dropped.
  void Acknowledge();
  // Nobody knows which version of the claimed pages the replica holds: they are dropped.
  void Fail();
  // The page was or will be written without the codec. It must not be claimed (checked).
  void Forget(uint16_t domain, uint32_t gfn);
  // Drops all.
  void Clear();

  size_t memory_bytes() const;

 private:
  enum class State : uint8_t { kEmpty, kStable, kClaimed, kClaimedNew };
  struct Slot {
    uint32_t gfn = 0;
    uint16_t domain = 0;
    State state = State::kEmpty;  // Changes only while one thread has the cache to itself.
    bool used = false;            // Since the hand last passed.
    bool encoded = false;         // Of a claimed slot; its own thread's.
  };

  // Aligned as the processor reads and writes them fastest.
  struct alignas(kPageBytes) Page {
    std::array<std::byte, kPageBytes> bytes;
  };

  struct FreePages {
    void operator()(Page* pages) const;
  };
  using Pages = std::unique_ptr<Page[], FreePages>;
  static Pages AllocatePages(uint32_t count);

  uint32_t FindVictim();
  void Drop(uint32_t slot);

  std::vector<std::vector<uint32_t>> slot_of_;  // By domain and frame number.
  std::vector<Slot> slots_;
  Pages pages_;
  std::vector<uint32_t> claimed_;
  uint32_t hand_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_PAGE_CACHE_H_
