// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/copy_datapath.h"

#include <immintrin.h>

#include <cstring>

#include "engine/base/check.h"
#include "engine/replica/frame.h"

namespace haven {
namespace {

constexpr size_t kCacheLineBytes = 64;

// Asks for the beginning of one page while another is copied. Dirty pages lie anywhere in the
// guest, so the first access to each waits for the page tables and for memory; this hides most of
// both, and once a page is under way the processor sees by itself how it goes on.
void PrefetchPage(const std::byte* page) {
  constexpr size_t kAhead = 8 * kCacheLineBytes;
  for (size_t offset = 0; offset < kAhead; offset += kCacheLineBytes) {
    __builtin_prefetch(page + offset);
  }
}

// In the image of an epoch a page lies behind a frame's header of 16 bytes, so stores of 16 bytes
// are the widest that never cross a cache line.
void CopyPage(const std::byte* from, std::byte* to) {
  static_assert(kFrameHeaderBytes == sizeof(__m128i));
  // The casts are the intrinsics' own convention.
  const auto load = [&](size_t at) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from + at));
  };
  const auto store = [&](size_t at, __m128i bytes) {
    _mm_storeu_si128(reinterpret_cast<__m128i_u*>(to + at), bytes);
  };
  for (size_t at = 0; at < kPageBytes; at += kCacheLineBytes) {
    const __m128i first = load(at);
    const __m128i second = load(at + 16);
    const __m128i third = load(at + 32);
    const __m128i fourth = load(at + 48);
    store(at, first);
    store(at + 16, second);
    store(at + 32, third);
    store(at + 48, fourth);
  }
}

}  // namespace

void CopyPages(const EpochPlan& plan, const DirtySets& sets, std::span<std::byte> staging,
               CopyPool& pool) {
  const std::span<const PlannedSlot> slots = plan.slots();
  HAVEN_CHECK_LE(slots.size() * plan.slot_bytes(), staging.size());
  pool.Run(static_cast<uint32_t>(slots.size()), [&](uint32_t slot) {
    std::byte* base = staging.data() + size_t{slot} * plan.slot_bytes();
    const std::span<const PageRun> runs = plan.SlotRuns(slots[slot]);
    const auto source = [&](size_t i) { return sets.memory(runs[i].domain).Page(runs[i].first); };
    for (size_t i = 0; i < runs.size(); ++i) {
      if (i + 1 < runs.size()) PrefetchPage(source(i + 1));
      std::byte* const to = base + runs[i].slot_offset;
      if (runs[i].pages == 1) {
        CopyPage(source(i), to);
      } else {
        std::memcpy(to, source(i), size_t{runs[i].pages} * kPageBytes);
      }
    }
  });
}

}  // namespace haven
