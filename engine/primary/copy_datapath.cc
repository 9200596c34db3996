// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/copy_datapath.h"

#include <cstring>

#include "engine/base/check.h"

namespace haven {
namespace {

constexpr size_t kCacheLineBytes = 64;

// Asks for one page while another is copied. Dirty pages lie anywhere in the guest, so the first
// access to each waits for the page tables and for memory; this hides most of both.
void PrefetchPage(const std::byte* page) {
  for (size_t offset = 0; offset < kPageBytes; offset += kCacheLineBytes) {
    __builtin_prefetch(page + offset);
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
      std::memcpy(base + runs[i].slot_offset, source(i), size_t{runs[i].pages} * kPageBytes);
    }
  });
}

}  // namespace haven
