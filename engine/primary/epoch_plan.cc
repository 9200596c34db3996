// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_plan.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/replica/layout.h"

namespace haven {

EpochPlan::EpochPlan(uint32_t slot_bytes, uint32_t max_slots,
                     std::span<const uint32_t> max_state_bytes)
    : slot_bytes_(slot_bytes),
      max_slots_(max_slots),
      max_state_bytes_(max_state_bytes.begin(), max_state_bytes.end()) {
  HAVEN_CHECK_GE(slot_bytes, kMinSlotBytes);
  HAVEN_CHECK_LE(slot_bytes, kMaxSlotBytes);
  HAVEN_CHECK_EQ(slot_bytes & (slot_bytes - 1), 0u) << "slot_bytes=" << slot_bytes;
  HAVEN_CHECK_GE(max_slots, 1u);
  HAVEN_CHECK(!max_state_bytes_.empty());
  HAVEN_CHECK_LE(max_state_bytes_.size(), kMaxDomains);

  runs_.reserve(size_t{max_slots} * min_slot_pages());
  slots_.reserve(max_slots);
  size_t fragments = 0;
  for (size_t i = 0; i < max_state_bytes_.size(); ++i) {
    HAVEN_CHECK_GE(max_state_bytes_[i], 1u) << "domain=" << i;
    HAVEN_CHECK_LE(max_state_bytes_[i], kMaxStateBytes) << "domain=" << i;
    // All fragments but a state's first and last fill a slot of their own.
    fragments += max_state_bytes_[i] / (slot_bytes - kChunkHeaderBytes - kFrameHeaderBytes) + 2;
  }
  fragments_.reserve(fragments);
}

}  // namespace haven
