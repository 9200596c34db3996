// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/slot_ledger.h"

#include <array>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

JournalGeometry Geometry() {
  return {.slot_bytes = kMinSlotBytes, .ring_slots = 10, .pool_slots = 12, .extent_slots = 3};
}

EpochPlacement InRing(RingPosition first, uint32_t slots) {
  EpochPlacement placement;
  placement.first_position = first;
  placement.ring_slots_used = slots;
  return placement;
}

EpochPlacement InRingAndPool(RingPosition first, uint32_t slots,
                             const std::vector<uint32_t>& extents) {
  EpochPlacement placement = InRing(first, slots);
  for (const uint32_t extent : extents) placement.extents[placement.extent_count++] = extent;
  return placement;
}

TEST(SlotLedgerTest, StartsEmpty) {
  const SlotLedger ledger(Geometry());
  EXPECT_EQ(ledger.tail(), 0u);
  EXPECT_EQ(ledger.next(), 0u);
  EXPECT_EQ(ledger.free_ring_slots(), 10u);
  EXPECT_EQ(ledger.free_extents(), 4u);
  EXPECT_EQ(ledger.unapplied(), 0u);
  EXPECT_EQ(ledger.granted_epoch(), kNoEpoch);
  EXPECT_THAT(ledger.granted(), IsEmpty());
}

TEST(SlotLedgerTest, RingSlotsAreInUseUntilTheirEpochIsReleased) {
  SlotLedger ledger(Geometry());
  ledger.Commit(1, InRing(0, 6));
  ledger.Commit(4, InRing(6, 3));
  EXPECT_EQ(ledger.next(), 9u);
  EXPECT_EQ(ledger.tail(), 0u);
  EXPECT_EQ(ledger.free_ring_slots(), 1u);

  ledger.Release(1);
  EXPECT_EQ(ledger.tail(), 6u);
  EXPECT_EQ(ledger.free_ring_slots(), 7u);

  // Over the end of the ring.
  EXPECT_TRUE(ledger.Check(5, InRing(9, 7)).ok());
  ledger.Commit(5, InRing(9, 7));
  EXPECT_EQ(ledger.free_ring_slots(), 0u);
  ledger.Release(4);
  ledger.Release(5);
  EXPECT_EQ(ledger.tail(), 16u);
  EXPECT_EQ(ledger.free_ring_slots(), 10u);
}

TEST(SlotLedgerTest, AnEpochWithoutRingSlotsIsAnEpochToo) {
  SlotLedger ledger(Geometry());
  ledger.Commit(1, InRing(0, 0));
  EXPECT_EQ(ledger.unapplied(), 1u);
  ledger.Release(1);
  EXPECT_EQ(ledger.unapplied(), 0u);
  EXPECT_EQ(ledger.tail(), 0u);
}

TEST(SlotLedgerTest, RefusesAPlacementElsewhereThanAtNext) {
  SlotLedger ledger(Geometry());
  ledger.Commit(1, InRing(0, 4));
  const absl::Status below = ledger.Check(2, InRing(3, 1));
  EXPECT_TRUE(absl::IsInvalidArgument(below));
  EXPECT_THAT(std::string(below.message()), HasSubstr("first_position is 3"));
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.Check(2, InRing(5, 1))));
  EXPECT_TRUE(ledger.Check(2, InRing(4, 1)).ok());
}

TEST(SlotLedgerTest, RefusesRingSlotsThatAreNotFree) {
  SlotLedger ledger(Geometry());
  ledger.Commit(1, InRing(0, 4));
  EXPECT_TRUE(ledger.Check(2, InRing(4, 6)).ok());
  const absl::Status over = ledger.Check(2, InRing(4, 7));
  EXPECT_TRUE(absl::IsInvalidArgument(over));
  EXPECT_THAT(std::string(over.message()), HasSubstr("ring_slots_used is 7"));
  ledger.Release(1);
  EXPECT_TRUE(ledger.Check(2, InRing(4, 7)).ok());
}

TEST(SlotLedgerTest, FullWithFourUnappliedEpochs) {
  SlotLedger ledger(Geometry());
  for (Epoch epoch = 1; epoch <= kMaxUnappliedEpochs; ++epoch) {
    EXPECT_FALSE(ledger.full());
    ledger.Commit(epoch, InRing(epoch - 1, 1));
  }
  EXPECT_TRUE(ledger.full());
  ledger.Release(1);
  EXPECT_FALSE(ledger.full());
}

TEST(SlotLedgerTest, GrantsExtentsOnceAndInOrder) {
  SlotLedger ledger(Geometry());
  std::array<uint32_t, 2> first{};
  ASSERT_TRUE(ledger.GrantExtents(7, first).ok());
  EXPECT_THAT(first, ElementsAre(0, 1));
  EXPECT_EQ(ledger.granted_epoch(), 7u);

  std::array<uint32_t, 1> more{};
  ASSERT_TRUE(ledger.GrantExtents(7, more).ok());
  EXPECT_THAT(more, ElementsAre(2));
  EXPECT_THAT(ledger.granted(), ElementsAre(0, 1, 2));
  EXPECT_EQ(ledger.free_extents(), 1u);
}

TEST(SlotLedgerTest, ACommittedExtentIsFreeAfterTheRelease) {
  SlotLedger ledger(Geometry());
  std::array<uint32_t, 3> extents{};
  ASSERT_TRUE(ledger.GrantExtents(1, extents).ok());
  const EpochPlacement placement = InRingAndPool(0, 10, {extents[1], extents[0]});
  ASSERT_TRUE(ledger.Check(1, placement).ok());
  ledger.Commit(1, placement);
  // The third was granted and not used.
  EXPECT_EQ(ledger.free_extents(), 2u);
  EXPECT_EQ(ledger.granted_epoch(), kNoEpoch);
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.Check(2, InRingAndPool(10, 0, {extents[0]}))));
  ledger.Release(1);
  EXPECT_EQ(ledger.free_extents(), 4u);
}

TEST(SlotLedgerTest, RefusesExtentsThatWereNotGrantedToTheEpoch) {
  SlotLedger ledger(Geometry());
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.Check(1, InRingAndPool(0, 1, {0}))));
  std::array<uint32_t, 1> extent{};
  ASSERT_TRUE(ledger.GrantExtents(2, extent).ok());
  EXPECT_TRUE(ledger.Check(2, InRingAndPool(0, 1, {0})).ok());
  const absl::Status other_epoch = ledger.Check(3, InRingAndPool(0, 1, {0}));
  EXPECT_TRUE(absl::IsInvalidArgument(other_epoch));
  EXPECT_THAT(std::string(other_epoch.message()),
              HasSubstr("extent is 0, must be granted to epoch 3"));
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.Check(2, InRingAndPool(0, 1, {1}))));
}

TEST(SlotLedgerTest, AGrantToANewerEpochTakesBackAnOlderOne) {
  SlotLedger ledger(Geometry());
  std::array<uint32_t, 4> all{};
  ASSERT_TRUE(ledger.GrantExtents(1, all).ok());
  std::array<uint32_t, 2> two{};
  ASSERT_TRUE(ledger.GrantExtents(2, two).ok());
  EXPECT_EQ(ledger.granted_epoch(), 2u);
  EXPECT_EQ(ledger.free_extents(), 2u);
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.Check(1, InRingAndPool(0, 1, {all[3]}))));
}

TEST(SlotLedgerTest, DropGrantsFreesThem) {
  SlotLedger ledger(Geometry());
  std::array<uint32_t, 3> extents{};
  ASSERT_TRUE(ledger.GrantExtents(1, extents).ok());
  ledger.DropGrants();
  EXPECT_EQ(ledger.free_extents(), 4u);
  EXPECT_THAT(ledger.granted(), IsEmpty());
  ledger.DropGrants();
  EXPECT_EQ(ledger.free_extents(), 4u);
}

TEST(SlotLedgerTest, GrantErrorsChangeNothing) {
  SlotLedger ledger(Geometry());
  ledger.Commit(5, InRing(0, 1));
  std::array<uint32_t, 3> three{};
  ASSERT_TRUE(ledger.GrantExtents(8, three).ok());

  std::vector<uint32_t> none;
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.GrantExtents(8, none)));
  std::array<uint32_t, 1> one{};
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.GrantExtents(5, one)));  // Committed.
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.GrantExtents(7, one)));  // Older than the holder.
  std::array<uint32_t, 2> two{};
  const absl::Status too_many = ledger.GrantExtents(8, two);  // 5 of a pool of 4.
  EXPECT_TRUE(absl::IsResourceExhausted(too_many));
  EXPECT_THAT(std::string(too_many.message()), HasSubstr("needs 5 extents, the pool has 4"));
  std::vector<uint32_t> beyond_limit(kMaxEpochExtents + 1);
  EXPECT_TRUE(absl::IsInvalidArgument(ledger.GrantExtents(9, beyond_limit)));

  EXPECT_EQ(ledger.granted_epoch(), 8u);
  EXPECT_EQ(ledger.granted().size(), 3u);
  EXPECT_EQ(ledger.free_extents(), 1u);
}

TEST(SlotLedgerTest, ExhaustedUntilARelease) {
  SlotLedger ledger(Geometry());
  std::array<uint32_t, 3> three{};
  ASSERT_TRUE(ledger.GrantExtents(1, three).ok());
  ledger.Commit(1, InRingAndPool(0, 10, {three[0], three[1], three[2]}));

  std::array<uint32_t, 2> two{};
  const absl::Status now = ledger.GrantExtents(2, two);
  EXPECT_TRUE(absl::IsResourceExhausted(now));
  EXPECT_THAT(std::string(now.message()), HasSubstr("1 of 4 are free: ask again"));
  ledger.Release(1);
  EXPECT_TRUE(ledger.GrantExtents(2, two).ok());
}

TEST(SlotLedgerTest, NoPool) {
  JournalGeometry geometry = Geometry();
  geometry.pool_slots = 0;
  SlotLedger ledger(geometry);
  std::array<uint32_t, 1> one{};
  EXPECT_TRUE(absl::IsResourceExhausted(ledger.GrantExtents(1, one)));
}

TEST(SlotLedgerDeathTest, MisuseAborts) {
  SlotLedger ledger(Geometry());
  EXPECT_DEATH(ledger.Release(1), "epoch=1");
  ledger.Commit(1, InRing(0, 1));
  ledger.Commit(2, InRing(1, 1));
  EXPECT_DEATH(ledger.Release(2), "oldest.epoch == epoch");
  EXPECT_DEATH(ledger.Commit(2, InRing(2, 1)), "epoch > last_committed_");
  EXPECT_DEATH(ledger.Commit(3, InRing(9, 1)), "first_position");
}

}  // namespace
}  // namespace haven
