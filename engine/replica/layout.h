// SPDX-License-Identifier: Apache-2.0
//
// Where things lie in the journal region on the backup (DESIGN.md section 5,
// docs/replica-format.md).
//
//   offset 0      control block, 4096 bytes (control_block.h)
//   offset 4096   ring_slots slots: the journal ring
//   then          pool_slots slots: the overflow pool, granted in extents of extent_slots slots
//
// Slots are numbered through: 0 .. ring_slots-1 is the ring, ring_slots .. slots()-1 the pool. Each
// holds one chunk (chunk.h). Nothing in the region is a pointer.
#ifndef HAVEN_ENGINE_REPLICA_LAYOUT_H_
#define HAVEN_ENGINE_REPLICA_LAYOUT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/replica/identity.h"

namespace haven {

inline constexpr uint64_t kControlBlockBytes = 4096;
inline constexpr uint32_t kMinSlotBytes = uint32_t{64} << 10;
inline constexpr uint32_t kMaxSlotBytes = uint32_t{4} << 20;
inline constexpr uint32_t kDefaultSlotBytes = uint32_t{256} << 10;
inline constexpr uint32_t kDefaultExtentSlots = 16;
inline constexpr uint32_t kMinRingSlots = 2;
inline constexpr uint64_t kMaxJournalBytes = uint64_t{1} << 40;

// Most extents that one epoch may use beyond the ring.
inline constexpr uint32_t kMaxEpochExtents = 64;

// Domains in one session are numbered 0 .. count-1 in the order of the Hello message.
inline constexpr uint16_t kMaxDomains = 16;

// Limit of a domain's frame numbers: 16 TiB of guest-physical addresses.
inline constexpr uint64_t kMaxDomainPages = uint64_t{1} << 32;

// Limit of one domain's vCPU and device state.
inline constexpr uint32_t kMaxStateBytes = uint32_t{64} << 20;

// Sizes of one journal region; fixed for the life of a session. All functions but Validate() need
// a geometry for which Validate() is OK.
struct JournalGeometry {
  uint32_t slot_bytes = kDefaultSlotBytes;      // Power of two, kMinSlotBytes .. kMaxSlotBytes.
  uint32_t ring_slots = 0;                      // At least kMinRingSlots.
  uint32_t pool_slots = 0;                      // A multiple of extent_slots; 0: no pool.
  uint32_t extent_slots = kDefaultExtentSlots;  // At least 1.

  // InvalidArgument naming the field and its value: one breaks its rule above, or the region would
  // be larger than kMaxJournalBytes.
  absl::Status Validate() const;

  uint32_t slots() const { return ring_slots + pool_slots; }
  uint32_t extents() const { return pool_slots / extent_slots; }
  uint64_t total_bytes() const { return kControlBlockBytes + uint64_t{slot_bytes} * slots(); }

  // Offset of a slot in the region, in bytes. `slot` < slots().
  uint64_t SlotOffset(uint32_t slot) const {
    return kControlBlockBytes + uint64_t{slot} * slot_bytes;
  }

  // The slot in which a position of the ring lies.
  uint32_t RingSlot(RingPosition position) const {
    return static_cast<uint32_t>(position % ring_slots);
  }

  // The first of an extent's slots. `extent` < extents().
  uint32_t ExtentSlot(uint32_t extent) const { return ring_slots + extent * extent_slots; }

  friend bool operator==(const JournalGeometry&, const JournalGeometry&) = default;
};

// Where the chunks of one epoch lie: first in ring slots from `first_position` on, then in the
// slots of the extents in the order given here. Part of the commit record.
struct EpochPlacement {
  RingPosition first_position = 0;
  uint32_t ring_slots_used = 0;
  uint32_t extent_count = 0;                         // Entries used of `extents`.
  std::array<uint32_t, kMaxEpochExtents> extents{};  // Extent indices; unused entries are 0.

  // Chunks that fit.
  uint64_t capacity(const JournalGeometry& geometry) const {
    return uint64_t{ring_slots_used} + uint64_t{extent_count} * geometry.extent_slots;
  }

  // The slot of chunk `index`. The placement is valid for `geometry` and index <
  // capacity(geometry).
  uint32_t ChunkSlot(const JournalGeometry& geometry, uint32_t index) const;

  // InvalidArgument naming the field and its value unless `chunk_count` chunks lie in this
  // placement without gap or waste: no more ring slots than the ring has or than there are chunks,
  // positions that do not wrap around 64 bits, extents that exist, none twice, as many as needed
  // and not one more, unused entries 0. Does not allocate if OK.
  absl::Status Validate(const JournalGeometry& geometry, uint32_t chunk_count) const;

  friend bool operator==(const EpochPlacement&, const EpochPlacement&) = default;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_LAYOUT_H_
