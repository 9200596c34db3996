// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "engine/base/check.h"
#include "engine/primary/dirty_sets.h"
#include "engine/primary/dirty_words.h"

namespace haven {
namespace {

// Words of a bitmap that stand for one chunk of GuestMemory.
constexpr size_t kChunkWords = GuestMemory::kChunkPages / 64;

// `pages` bits from bit `first` on; `pages` is 1 to 64 - first.
uint64_t BitRange(uint64_t first, uint64_t pages) {
  return (~uint64_t{0} >> (64 - pages)) << first;
}

}  // namespace

template <typename Visit>
void DirtySets::ForEachTouchedBlock(const DomainSets& sets, const Visit& visit) {
  for (size_t i = 0; i < sets.touched.size(); ++i) {
    for (uint64_t blocks = sets.touched[i]; blocks != 0; blocks &= blocks - 1) {
      const size_t first = (i * 64 + static_cast<size_t>(std::countr_zero(blocks))) * kBlockWords;
      visit(first, std::min(first + kBlockWords, sets.inflight.size()));
    }
  }
}

uint64_t DirtySets::CountPending() const {
  uint64_t pages = 0;
  for (const DomainSets& sets : domains_) {
    const std::span<const uint64_t> pending = sets.pending;
    const std::span<const uint64_t> ram = sets.memory->ram_bitmap();
    const size_t words = pending.size();
    for (size_t i = FindNonZero(pending, 0); i < words; i = FindNonZero(pending, i + 1)) {
      uint64_t bits = pending[i] & ram[i];
      if (i + 1 == words) bits &= sets.last_word_frames;
      pages += static_cast<uint64_t>(std::popcount(bits));
    }
  }
  return pages;
}

uint64_t DirtySets::CountInflight() const {
  uint64_t pages = 0;
  for (const DomainSets& sets : domains_) {
    ForEachTouchedBlock(sets, [&](size_t first, size_t end) {
      for (size_t i = first; i < end; ++i) {
        pages += static_cast<uint64_t>(std::popcount(sets.inflight[i]));
      }
    });
  }
  return pages;
}

void DirtySets::Take(size_t domain, const FrameRun& run) {
  DomainSets& sets = domains_[domain];
  Gfn gfn = run.first;
  for (uint64_t left = run.pages; left > 0;) {
    const size_t word = static_cast<size_t>(gfn / 64);
    const uint64_t pages = std::min(left, 64 - gfn % 64);
    const uint64_t bits = BitRange(gfn % 64, pages);
    HAVEN_CHECK_EQ(sets.pending[word] & bits, bits) << "domain=" << domain << " gfn=" << gfn;
    sets.pending[word] &= ~bits;
    sets.inflight[word] |= bits;
    sets.touched[word / kBlockWords / 64] |= uint64_t{1} << (word / kBlockWords % 64);
    gfn += pages;
    left -= pages;
  }
}

void DirtySets::DropInflight() {
  for (DomainSets& sets : domains_) {
    ForEachTouchedBlock(sets, [&](size_t first, size_t end) {
      std::fill(sets.inflight.data() + first, sets.inflight.data() + end, 0);
    });
    std::fill(sets.touched.begin(), sets.touched.end(), 0);
  }
}

void DirtySets::RestoreInflight() {
  for (DomainSets& sets : domains_) {
    ForEachTouchedBlock(sets, [&](size_t first, size_t end) {
      for (size_t i = first; i < end; ++i) sets.pending[i] |= sets.inflight[i];
    });
  }
  DropInflight();
}

DirtySets::Runs::Runs(const DirtySets& sets, size_t domain, Gfn from)
    : sets_(sets.domains_[domain]) {
  scanned_ = static_cast<size_t>(std::min<uint64_t>(from / 64, sets_.pending.size()));
  if (NextWord() && word_ == from / 64) bits_ &= ~uint64_t{0} << (from % 64);
}

// Finds the next words with anything pending and asks for their neighbours in the other bitmaps.
void DirtySets::Runs::LookAhead() {
  ahead_begin_ = 0;
  ahead_end_ = 0;
  const size_t words = sets_.pending.size();
  while (ahead_end_ < kAhead) {
    scanned_ = FindNonZero(sets_.pending, scanned_);
    if (scanned_ == words) return;
    __builtin_prefetch(&sets_.memory->ram_bitmap()[scanned_]);
    __builtin_prefetch(&sets_.inflight[scanned_], 1);
    ahead_[ahead_end_++] = scanned_++;
  }
}

// Goes to the next word with anything pending, which may be in frames that are not RAM; false if
// there is none.
bool DirtySets::Runs::NextWord() {
  if (ahead_begin_ == ahead_end_) LookAhead();
  if (ahead_begin_ == ahead_end_) return false;
  word_ = ahead_[ahead_begin_++];
  bits_ = sets_.pending[word_] & sets_.memory->ram_bitmap()[word_];
  if (word_ + 1 == sets_.pending.size()) bits_ &= sets_.last_word_frames;
  return true;
}

bool DirtySets::Runs::Next(FrameRun* run) {
  while (bits_ == 0) {
    if (!NextWord()) return false;
  }
  const unsigned first = static_cast<unsigned>(std::countr_zero(bits_));
  unsigned pages = static_cast<unsigned>(std::countr_one(bits_ >> first));
  run->first = word_ * 64 + first;
  run->pages = pages;
  bits_ &= ~BitRange(first, pages);
  // A run that reaches the end of its word goes on in the next one, up to the end of the chunk.
  while (run->first + run->pages == (word_ + 1) * 64 && (word_ + 1) % kChunkWords != 0) {
    const size_t next = word_ + 1;
    if (!NextWord() || word_ != next) break;
    pages = static_cast<unsigned>(std::countr_one(bits_));
    if (pages == 0) break;
    run->pages += pages;
    bits_ &= ~BitRange(0, pages);
  }
  return true;
}

}  // namespace haven
