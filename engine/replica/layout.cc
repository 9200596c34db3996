// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/layout.h"

#include <algorithm>
#include <bit>

#include "engine/base/check.h"
#include "engine/replica/format_error.h"

namespace haven {

absl::Status JournalGeometry::Validate() const {
  constexpr char kWhat[] = "journal geometry";
  if (!std::has_single_bit(slot_bytes) || slot_bytes < kMinSlotBytes ||
      slot_bytes > kMaxSlotBytes) {
    return FieldError(kWhat, "slot_bytes", slot_bytes, "a power of two, 65536 .. 4194304");
  }
  if (ring_slots < kMinRingSlots) {
    return FieldError(kWhat, "ring_slots", ring_slots, "at least", kMinRingSlots);
  }
  if (extent_slots < 1) return FieldError(kWhat, "extent_slots", extent_slots, "at least 1");
  if (pool_slots % extent_slots != 0) {
    return FieldError(kWhat, "pool_slots", pool_slots, "a multiple of extent_slots,", extent_slots);
  }
  const uint64_t max_slots = (kMaxJournalBytes - kControlBlockBytes) / slot_bytes;
  if (uint64_t{ring_slots} + pool_slots > max_slots) {
    return FieldError(kWhat, "ring_slots + pool_slots", uint64_t{ring_slots} + pool_slots,
                      "at most", max_slots);
  }
  return absl::OkStatus();
}

uint32_t EpochPlacement::ChunkSlot(const JournalGeometry& geometry, uint32_t index) const {
  if (index < ring_slots_used) return geometry.RingSlot(first_position + index);
  const uint32_t beyond = index - ring_slots_used;
  const uint32_t which = beyond / geometry.extent_slots;
  HAVEN_CHECK_LT(which, extent_count);
  return geometry.ExtentSlot(extents[which]) + beyond % geometry.extent_slots;
}

absl::Status EpochPlacement::Validate(const JournalGeometry& geometry, uint32_t chunk_count) const {
  constexpr char kWhat[] = "epoch placement";
  const uint32_t max_ring = std::min(geometry.ring_slots, chunk_count);
  if (ring_slots_used > max_ring) {
    return FieldError(kWhat, "ring_slots_used", ring_slots_used,
                      "at most ring_slots and chunk_count,", max_ring);
  }
  if (first_position > UINT64_MAX - ring_slots_used) {
    return FieldError(kWhat, "first_position", first_position, "at most",
                      UINT64_MAX - ring_slots_used);
  }
  if (extent_count > kMaxEpochExtents) {
    return FieldError(kWhat, "extent_count", extent_count, "at most", kMaxEpochExtents);
  }
  const uint32_t beyond = chunk_count - ring_slots_used;
  const uint32_t extents_needed =
      beyond / geometry.extent_slots + (beyond % geometry.extent_slots != 0);
  if (extent_count != extents_needed) {
    return FieldError(kWhat, "extent_count", extent_count, "as many as the chunks need,",
                      extents_needed);
  }
  for (uint32_t i = 0; i < kMaxEpochExtents; ++i) {
    const uint32_t extent = extents[i];
    if (i >= extent_count) {
      if (extent != 0) return FieldError(kWhat, "unused extent", extent, "0");
      continue;
    }
    if (extent >= geometry.extents()) {
      return FieldError(kWhat, "extent", extent, "below", geometry.extents());
    }
    if (std::find(extents.begin(), extents.begin() + i, extent) != extents.begin() + i) {
      return FieldError(kWhat, "extent", extent, "named only once");
    }
  }
  return absl::OkStatus();
}

}  // namespace haven
