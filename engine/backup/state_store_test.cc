// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/state_store.h"

#include <algorithm>
#include <array>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::Each;

constexpr std::array<uint32_t, 2> kLimits = {100, 7};

void FillSpare(const StateStore& store, std::byte fill) {
  for (const std::span<std::byte> buffer : store.spare()) {
    std::fill(buffer.begin(), buffer.end(), fill);
  }
}

TEST(StateStoreTest, StartsWithoutAState) {
  const StateStore store(kLimits);
  EXPECT_EQ(store.domain_count(), 2);
  EXPECT_EQ(store.max_state_bytes(0), 100u);
  EXPECT_EQ(store.max_state_bytes(1), 7u);
  EXPECT_EQ(store.epoch(), kNoEpoch);
  ASSERT_EQ(store.spare().size(), 2u);
  EXPECT_EQ(store.spare()[0].size(), 100u);
  EXPECT_EQ(store.spare()[1].size(), 7u);
}

TEST(StateStoreTest, CommitTurnsTheSpareIntoTheState) {
  StateStore store(kLimits);
  FillSpare(store, std::byte{1});
  store.Commit(3, std::array<uint32_t, 2>{60, 7});
  EXPECT_EQ(store.epoch(), 3u);
  EXPECT_EQ(store.state(0).size(), 60u);
  EXPECT_EQ(store.state(1).size(), 7u);
  EXPECT_THAT(store.state(0), Each(std::byte{1}));
  EXPECT_THAT(store.state(1), Each(std::byte{1}));
}

TEST(StateStoreTest, WhatIsBeingReceivedDoesNotTouchTheCommittedState) {
  StateStore store(kLimits);
  FillSpare(store, std::byte{1});
  store.Commit(1, std::array<uint32_t, 2>{100, 7});
  FillSpare(store, std::byte{2});
  EXPECT_THAT(store.state(0), Each(std::byte{1}));
  EXPECT_THAT(store.state(1), Each(std::byte{1}));
  store.Commit(2, std::array<uint32_t, 2>{100, 0});
  EXPECT_THAT(store.state(0), Each(std::byte{2}));
  EXPECT_TRUE(store.state(1).empty());
  FillSpare(store, std::byte{3});
  EXPECT_THAT(store.state(0), Each(std::byte{2}));
}

TEST(StateStoreDeathTest, MisuseAborts) {
  StateStore store(kLimits);
  EXPECT_DEATH(store.state(0), "epoch_ != kNoEpoch");
  store.Commit(2, std::array<uint32_t, 2>{1, 1});
  EXPECT_DEATH(store.Commit(2, std::array<uint32_t, 2>{1, 1}), "epoch > epoch_");
  EXPECT_DEATH(store.Commit(3, std::array<uint32_t, 2>{101, 1}), "101 vs. 100");
  EXPECT_DEATH(store.Commit(3, std::array<uint32_t, 1>{1}), "epoch=3");
  EXPECT_DEATH(store.state(2), "domain < domain_count_");
  EXPECT_DEATH(StateStore(std::vector<uint32_t>()), "state_bytes");
  EXPECT_DEATH(StateStore(std::vector<uint32_t>{0}), "bytes >= 1u");
}

}  // namespace
}  // namespace haven
