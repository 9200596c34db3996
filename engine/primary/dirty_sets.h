// SPDX-License-Identifier: Apache-2.0
//
// Which pages the replica lacks: kept until an epoch that carries them is acknowledged (DESIGN.md
// section 4).
#ifndef HAVEN_ENGINE_PRIMARY_DIRTY_SETS_H_
#define HAVEN_ENGINE_PRIMARY_DIRTY_SETS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/replica/guest_memory.h"
#include "engine/replica/identity.h"

namespace haven {

// Adjacent frames of one domain. Never crosses a chunk of GuestMemory, so its memory is contiguous.
struct FrameRun {
  Gfn first = 0;
  uint32_t pages = 0;
};

// Two bitmaps per domain, one bit a frame, lowest bit first:
//   pending    dirty and in no epoch
//   in flight  taken into the epoch that is being built, sent or waits for its acknowledgement
// A page that the guest dirties again while it is in flight is in both. On acknowledgement the
// second set is dropped, on any failure it is put back into the first: no page is ever forgotten.
//
// Frames that are not RAM are ignored wherever they are set. Nothing allocates after construction.
// Not thread-safe.
class DirtySets {
 public:
  // Both sets are empty at first. The memories must outlive this object. Allocates a quarter of a
  // byte a page of guest memory.
  explicit DirtySets(std::span<const GuestMemory* const> memories);

  size_t domains() const { return domains_.size(); }
  const GuestMemory& memory(size_t domain) const { return *domains_[domain].memory; }

  // Makes all RAM pending: of every domain, or of one. What is in flight stays in flight too.
  void MarkAll();
  void MarkAll(size_t domain);

  // The pending bitmap, memory(domain).bitmap_words() words, to OR a dirty log into.
  std::span<uint64_t> Pending(size_t domain) { return domains_[domain].pending; }

  // Pages of RAM that are pending in all domains. Reads every word of the bitmaps.
  uint64_t CountPending() const;

  // Pages in flight. Costs as much as there is in flight.
  uint64_t CountInflight() const;

  // Moves pending pages to the set in flight. All of the run must be pending RAM.
  void Take(size_t domain, const FrameRun& run);

  // The epoch is acknowledged: forgets what is in flight. Costs as much as there is in flight.
  void DropInflight();

  // The epoch failed, or nobody knows: all that is in flight is pending again. Same cost.
  void RestoreInflight();

  class Runs;

 private:
  // A block of the set in flight: as many words as one word of the summary has bits.
  static constexpr size_t kBlockWords = 64;

  struct DomainSets {
    const GuestMemory* memory = nullptr;
    uint64_t last_word_frames = 0;  // Bits of the last word that stand for frames.
    std::vector<uint64_t> pending;
    std::vector<uint64_t> inflight;  // As long as `pending`.
    std::vector<uint64_t> touched;   // One bit per block of `inflight` that may be non-zero.
  };

  // Calls visit(first word, end word) for each block that may have something in flight.
  template <typename Visit>
  static void ForEachTouchedBlock(const DomainSets& sets, const Visit& visit);

  std::vector<DomainSets> domains_;
};

// Walks the runs of pending RAM in one domain, ascending, merged as far as they are adjacent within
// a chunk of GuestMemory. Taking a run that was returned does not disturb the walk.
class DirtySets::Runs {
 public:
  // Starts at frame `from`; any value is allowed.
  Runs(const DirtySets& sets, size_t domain, Gfn from);

  // Sets `*run` to the next run; false if there is none.
  bool Next(FrameRun* run);

 private:
  bool NextWord();
  void LookAhead();

  // Words that are known to have something pending before they are looked at, so that what else
  // belongs to them is on its way into the cache: without, each of some pages scattered over a
  // guest of a terabyte costs a wait for memory.
  static constexpr size_t kAhead = 32;

  const DomainSets& sets_;
  std::array<size_t, kAhead> ahead_;
  size_t ahead_begin_ = 0;
  size_t ahead_end_ = 0;
  size_t scanned_ = 0;  // Words below this one are in ahead_ or done.
  size_t word_ = 0;     // The word that bits_ was taken from.
  uint64_t bits_ = 0;   // What is still to be returned of that word.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_DIRTY_SETS_H_
