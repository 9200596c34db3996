// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "engine/replica/control_block.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr JournalGeometry kGeometry = {
    .slot_bytes = 65536, .ring_slots = 8, .pool_slots = 8, .extent_slots = 2};

TEST(JournalGeometryTest, LaysOutControlBlockRingAndPool) {
  ASSERT_TRUE(kGeometry.Validate().ok());
  EXPECT_EQ(kGeometry.slots(), 16u);
  EXPECT_EQ(kGeometry.extents(), 4u);
  EXPECT_EQ(kGeometry.total_bytes(), 4096u + 16u * 65536u);
  EXPECT_EQ(kGeometry.SlotOffset(0), 4096u);
  EXPECT_EQ(kGeometry.SlotOffset(15), 4096u + 15u * 65536u);
  EXPECT_EQ(kGeometry.RingSlot(0), 0u);
  EXPECT_EQ(kGeometry.RingSlot(7), 7u);
  EXPECT_EQ(kGeometry.RingSlot(8), 0u);
  EXPECT_EQ(kGeometry.RingSlot(8 * uint64_t{1} << 40 | 3), 3u);
  EXPECT_EQ(kGeometry.ExtentSlot(0), 8u);
  EXPECT_EQ(kGeometry.ExtentSlot(3), 14u);
}

TEST(JournalGeometryTest, OffsetsBeyond32BitsAreExact) {
  const JournalGeometry geometry = {.slot_bytes = kMaxSlotBytes, .ring_slots = 262143};
  ASSERT_TRUE(geometry.Validate().ok());
  EXPECT_EQ(geometry.SlotOffset(262142), 4096u + 262142u * uint64_t{kMaxSlotBytes});
  EXPECT_LE(geometry.total_bytes(), kMaxJournalBytes);
}

TEST(JournalGeometryTest, TheSmallestJournalIsTwoSmallestSlots) {
  const JournalGeometry geometry = {
      .slot_bytes = kMinSlotBytes, .ring_slots = kMinRingSlots, .pool_slots = 1, .extent_slots = 1};
  EXPECT_TRUE(geometry.Validate().ok()) << geometry.Validate();
}

TEST(JournalGeometryTest, CommitSlotsTakeTurnsInsideTheControlBlock) {
  EXPECT_EQ(CommitSlotOffset(0), 1024u);
  EXPECT_EQ(CommitSlotOffset(1), 2048u);
  EXPECT_EQ(CommitSlotOffset(2), 1024u);
  EXPECT_EQ(CommitSlotOffset(UINT64_MAX), 2048u);
}

struct GeometryCase {
  JournalGeometry geometry;
  std::string error;
};

TEST(JournalGeometryTest, RefusesWhatBreaksARule) {
  const GeometryCase cases[] = {
      {{.slot_bytes = 0, .ring_slots = 8}, "slot_bytes is 0,"},
      {{.slot_bytes = 65535, .ring_slots = 8}, "slot_bytes is 65535,"},
      {{.slot_bytes = 65536 + 4096, .ring_slots = 8}, "slot_bytes is 69632,"},
      {{.slot_bytes = 32768, .ring_slots = 8}, "slot_bytes is 32768,"},
      {{.slot_bytes = 8388608, .ring_slots = 8}, "slot_bytes is 8388608,"},
      {{.ring_slots = 0}, "ring_slots is 0, must be at least 2"},
      {{.ring_slots = 1}, "ring_slots is 1, must be at least 2"},
      {{.ring_slots = 8, .extent_slots = 0}, "extent_slots is 0,"},
      {{.ring_slots = 8, .pool_slots = 17, .extent_slots = 16}, "pool_slots is 17,"},
      {{.slot_bytes = kMaxSlotBytes, .ring_slots = 262144}, "ring_slots + pool_slots is 262144,"},
      {{.slot_bytes = kMinSlotBytes, .ring_slots = 16777200, .pool_slots = 16},
       "ring_slots + pool_slots is 16777216,"},
      {{.slot_bytes = kMinSlotBytes,
        .ring_slots = UINT32_MAX,
        .pool_slots = UINT32_MAX,
        .extent_slots = 1},
       "ring_slots + pool_slots is 8589934590,"},
  };
  for (const GeometryCase& c : cases) {
    const absl::Status status = c.geometry.Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.error));
  }
}

TEST(EpochPlacementTest, RingFirstThenExtentsInTheirOrder) {
  EpochPlacement placement = {.first_position = 14, .ring_slots_used = 3, .extent_count = 2};
  placement.extents[0] = 3;
  placement.extents[1] = 0;
  ASSERT_TRUE(placement.Validate(kGeometry, 7).ok()) << placement.Validate(kGeometry, 7);
  EXPECT_EQ(placement.capacity(kGeometry), 7u);
  const uint32_t expected[] = {6, 7, 0, 14, 15, 8, 9};
  for (uint32_t i = 0; i < 7; ++i) EXPECT_EQ(placement.ChunkSlot(kGeometry, i), expected[i]) << i;
}

TEST(EpochPlacementTest, LimitsAreAccepted) {
  EXPECT_TRUE(EpochPlacement().Validate(kGeometry, 0).ok());
  const EpochPlacement whole_ring = {.first_position = UINT64_MAX - 8, .ring_slots_used = 8};
  EXPECT_TRUE(whole_ring.Validate(kGeometry, 8).ok());
  const JournalGeometry large = {
      .slot_bytes = 65536, .ring_slots = 2, .pool_slots = 64, .extent_slots = 1};
  EpochPlacement all_extents = {.extent_count = kMaxEpochExtents};
  for (uint32_t i = 0; i < kMaxEpochExtents; ++i) all_extents.extents[i] = i;
  EXPECT_TRUE(all_extents.Validate(large, 64).ok());
}

TEST(EpochPlacementDeathTest, ChunkBeyondThePlacementIsACallersBug) {
  const EpochPlacement placement = {.first_position = 0, .ring_slots_used = 2};
  EXPECT_DEATH(placement.ChunkSlot(kGeometry, 2), "extent_count");
}

struct PlacementCase {
  std::function<void(EpochPlacement&)> damage;
  uint32_t chunk_count;
  std::string error;
};

TEST(EpochPlacementTest, RefusesWhatBreaksARule) {
  const PlacementCase cases[] = {
      {[](auto& p) { p.ring_slots_used = 9; }, 12, "ring_slots_used is 9, must be at most"},
      {[](auto& p) { p.ring_slots_used = 8; }, 7, "ring_slots_used is 8, must be at most"},
      {[](auto& p) { p.first_position = UINT64_MAX - 2; }, 7,
       "first_position is 18446744073709551613,"},
      {[](auto& p) { p.extent_count = 65; }, 7, "extent_count is 65, must be at most 64"},
      {[](auto& p) { p.extent_count = UINT32_MAX; }, 7, "extent_count is 4294967295,"},
      {[](auto& p) { p.extent_count = 1; }, 7, "extent_count is 1, must be as many"},
      {[](auto&) {}, 5, "extent_count is 2, must be as many as the chunks need, 1"},
      {[](auto&) {}, 8, "extent_count is 2, must be as many as the chunks need, 3"},
      {[](auto&) {}, UINT32_MAX, "extent_count is 2, must be as many"},
      {[](auto& p) { p.extents[1] = 4; }, 7, "extent is 4, must be below 4"},
      {[](auto& p) { p.extents[0] = UINT32_MAX; }, 7, "extent is 4294967295, must be below 4"},
      {[](auto& p) { p.extents[1] = 3; }, 7, "extent is 3, must be named only once"},
      {[](auto& p) { p.extents[2] = 1; }, 7, "unused extent is 1, must be 0"},
      {[](auto& p) { p.extents[63] = 1; }, 7, "unused extent is 1, must be 0"},
  };
  for (const PlacementCase& c : cases) {
    EpochPlacement placement = {.first_position = 14, .ring_slots_used = 3, .extent_count = 2};
    placement.extents[0] = 3;
    placement.extents[1] = 0;
    c.damage(placement);
    const absl::Status status = placement.Validate(kGeometry, c.chunk_count);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.error));
  }
}

}  // namespace
}  // namespace haven
