// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/page_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "engine/base/check.h"

namespace haven {
namespace {

// Slots looked at for a victim: keeps a claim short when most slots are in use.
constexpr uint32_t kVictimSteps = 64;

constexpr std::align_val_t kHugePage{size_t{2} << 20};

}  // namespace

void PageCache::FreePages::operator()(Page* pages) const { ::operator delete(pages, kHugePage); }

// In huge pages where the system has them: what an epoch writes is all over the cache, and each
// page of it costs a walk through the page tables otherwise (codec_bench, fgbi on compile: a tenth
// of all encoding).
PageCache::Pages PageCache::AllocatePages(uint32_t count) {
  const size_t bytes = size_t{count} * kPageBytes;
  void* const pages = ::operator new(bytes, kHugePage);
  // Without them it is slower and otherwise the same.
  static_cast<void>(madvise(pages, bytes, MADV_HUGEPAGE));
  // Touches all of it: an epoch must not wait for page faults.
  std::memset(pages, 0, bytes);
  return Pages(static_cast<Page*>(pages));
}

PageCache::PageCache(std::span<const uint64_t> page_counts, uint32_t slots)
    : slots_(slots), pages_(AllocatePages(slots)) {
  for (const uint64_t pages : page_counts) slot_of_.emplace_back(pages, kNoSlot);
  claimed_.reserve(slots);
}

bool PageCache::Claim(uint16_t domain, uint32_t gfn, const Evicted& evicted) {
  uint32_t& own = slot_of_[domain][gfn];
  if (own != kNoSlot) {
    Slot& slot = slots_[own];
    HAVEN_CHECK(slot.state == State::kStable) << "domain=" << domain << " gfn=" << gfn;
    slot.state = State::kClaimed;
    slot.used = true;
    slot.encoded = false;
    claimed_.push_back(own);
    return true;
  }
  const uint32_t found = FindVictim();
  if (found == kNoSlot) return false;
  Slot& slot = slots_[found];
  if (slot.state == State::kStable) {
    evicted(slot.domain, slot.gfn, Bytes(found));
    Drop(found);
  }
  own = found;
  slot = {.gfn = gfn, .domain = domain, .state = State::kClaimedNew};
  claimed_.push_back(found);
  return true;
}

// Second chance: the hand passes over a slot that was used since it last came by.
uint32_t PageCache::FindVictim() {
  const uint32_t steps = std::min(kVictimSteps, 2 * slots());
  for (uint32_t step = 0; step < steps; ++step) {
    const uint32_t at = hand_;
    hand_ = hand_ + 1 == slots() ? 0 : hand_ + 1;
    Slot& slot = slots_[at];
    if (slot.state == State::kEmpty) return at;
    if (slot.state != State::kStable) continue;
    if (!slot.used) return at;
    slot.used = false;
  }
  return kNoSlot;
}

void PageCache::Drop(uint32_t slot) {
  slot_of_[slots_[slot].domain][slots_[slot].gfn] = kNoSlot;
  slots_[slot].state = State::kEmpty;
}

void PageCache::Acknowledge() {
  for (const uint32_t slot : claimed_) {
    if (slots_[slot].encoded) {
      slots_[slot].state = State::kStable;
    } else {
      Drop(slot);
    }
  }
  claimed_.clear();
}

void PageCache::Fail() {
  for (const uint32_t slot : claimed_) Drop(slot);
  claimed_.clear();
}

void PageCache::Forget(uint16_t domain, uint32_t gfn) {
  const uint32_t slot = slot_of_[domain][gfn];
  if (slot == kNoSlot) return;
  HAVEN_CHECK(slots_[slot].state == State::kStable) << "domain=" << domain << " gfn=" << gfn;
  Drop(slot);
}

void PageCache::Clear() {
  for (uint32_t slot = 0; slot < slots(); ++slot) {
    if (slots_[slot].state != State::kEmpty) Drop(slot);
  }
  claimed_.clear();
}

size_t PageCache::MemoryFor(std::span<const uint64_t> page_counts, uint32_t slots) {
  size_t bytes = size_t{slots} * (kPageBytes + sizeof(Slot) + sizeof(uint32_t));
  for (const uint64_t pages : page_counts) bytes += pages * sizeof(uint32_t);
  return bytes;
}

size_t PageCache::memory_bytes() const {
  size_t bytes =
      slots_.size() * (kPageBytes + sizeof(Slot)) + claimed_.capacity() * sizeof(uint32_t);
  for (const std::vector<uint32_t>& domain : slot_of_) bytes += domain.size() * sizeof(uint32_t);
  return bytes;
}

}  // namespace haven
