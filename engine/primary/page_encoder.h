// SPDX-License-Identifier: Apache-2.0
//
// Turns captured slots into chunks as they will lie on the backup. Whatever makes an epoch smaller
// belongs behind this function: EpochBuilder knows only what comes out of it.
#ifndef HAVEN_ENGINE_PRIMARY_PAGE_ENCODER_H_
#define HAVEN_ENGINE_PRIMARY_PAGE_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/primary/epoch_plan.h"
#include "engine/replica/chunk.h"

namespace haven {

// What goes into one slot.
struct SlotContent {
  std::span<const PageRun> runs;  // Their pages lie in the slot, where the plan put them.
  std::span<const StateFragment> fragments;            // Their bytes lie in `states`.
  std::span<const std::span<const std::byte>> states;  // One per domain.
};

struct EncodedSlot {
  ChunkTotals totals;  // The chunk is the slot's first kChunkHeaderBytes + payload_bytes bytes.
  uint32_t zero_pages = 0;  // Pages of totals.page_count that travel as zero runs.
};

// Encodes in place: pages that are all zero are dropped and named by zero runs, the pages behind
// them move down, frame headers and fragments are put between, header and CRCs are computed. `slot`
// is a whole slot. Touches nothing but `slot`, so slots may be encoded at the same time. Does not
// allocate.
EncodedSlot EncodeSlot(std::span<std::byte> slot, const SlotContent& content,
                       const ChunkIdentity& identity);

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_PAGE_ENCODER_H_
