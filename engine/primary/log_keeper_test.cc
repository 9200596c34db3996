// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/log_keeper.h"

#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint64_t kMostPages = 10'000;
constexpr uint64_t kBytes = uint64_t{1} << 20;

class LogKeeperTest : public ::testing::Test {
 protected:
  // A checkpoint whose log has so many pages; whether it was kept.
  bool Checkpoint(uint64_t pages, uint64_t bytes = kBytes, bool coded = true) {
    const bool kept = keeper_.Keep() && keeper_.Fits(pages);
    if (kept) {
      keeper_.OnKept(pages);
    } else {
      keeper_.OnNotKept();
    }
    keeper_.OnEncoded(bytes, coded);
    return kept;
  }
  // Of a guest that writes `pages` others in each epoch: how many of so many checkpoints keep it.
  int KeptOfAStream(uint64_t pages, int checkpoints) {
    int kept = 0;
    uint64_t logged = 0;
    for (int i = 0; i < checkpoints; ++i) {
      logged += pages;
      const bool keeps = Checkpoint(logged);
      kept += keeps ? 1 : 0;
      if (!keeps) logged = 0;
    }
    return kept;
  }

  LogKeeper keeper_{kMostPages};
};

TEST_F(LogKeeperTest, TheFirstCheckpointClears) { EXPECT_FALSE(Checkpoint(500)); }

TEST_F(LogKeeperTest, TheSamePagesAreKeptForABoundedTime) {
  Checkpoint(500);
  for (int round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < LogKeeper::kMostInARow; ++i) EXPECT_TRUE(Checkpoint(500)) << i;
    EXPECT_FALSE(Checkpoint(500));
  }
}

TEST_F(LogKeeperTest, ALogThatGrowsIsCleared) {
  Checkpoint(500);
  EXPECT_TRUE(Checkpoint(400));
  EXPECT_TRUE(Checkpoint(510));
  EXPECT_FALSE(Checkpoint(520)) << "a quarter more than in the first, and a few";
}

TEST_F(LogKeeperTest, WhoWritesNextToNothingMayWriteALittleMore) {
  Checkpoint(3);
  EXPECT_TRUE(Checkpoint(0));
  EXPECT_TRUE(Checkpoint(16));
  EXPECT_FALSE(Checkpoint(17));
}

TEST_F(LogKeeperTest, AStreamOfNewPagesIsTriedMoreAndMoreSeldom) {
  Checkpoint(500);
  EXPECT_LT(KeptOfAStream(500, 1000), 25);
  // It writes the same again: noticed at the next attempt.
  int cleared = 0;
  for (uint32_t i = 0; i < LogKeeper::kMostRest + LogKeeper::kMostInARow; ++i) {
    cleared += Checkpoint(500) ? 0 : 1;
  }
  EXPECT_LE(cleared, static_cast<int>(LogKeeper::kMostRest));
  EXPECT_TRUE(keeper_.Keep() || !Checkpoint(500));
}

TEST_F(LogKeeperTest, WhoIsAlwaysNearTheMarkIsSeldomLookedAtTwice) {
  Checkpoint(500);
  int looks = 0;
  for (int i = 0; i < 1000; ++i) {
    looks += keeper_.Keep() ? 1 : 0;
    EXPECT_FALSE(Checkpoint(kMostPages + 1));
  }
  EXPECT_LT(looks, 25);
}

TEST_F(LogKeeperTest, AfterALongRowThereIsNoRest) {
  Checkpoint(500);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Checkpoint(500));
  EXPECT_FALSE(Checkpoint(5000));
  EXPECT_TRUE(Checkpoint(5000));
}

TEST_F(LogKeeperTest, NotWithoutTheCodec) {
  Checkpoint(500, kBytes, false);
  EXPECT_FALSE(Checkpoint(500, kBytes, false));
  Checkpoint(500);
  EXPECT_TRUE(Checkpoint(500, kBytes, false)) << "it was coded until then";
  EXPECT_FALSE(Checkpoint(500));
}

TEST_F(LogKeeperTest, NotNearTheMark) {
  Checkpoint(500);
  EXPECT_FALSE(Checkpoint(kMostPages + 1));
  EXPECT_FALSE(Checkpoint(kMostPages)) << "it rests";
  EXPECT_TRUE(Checkpoint(kMostPages));
}

TEST_F(LogKeeperTest, NotOnceTheGuestDoesSomethingElse) {
  for (const uint64_t bytes : {kBytes / 16, kBytes * 16}) {
    LogKeeper fresh(kMostPages);
    keeper_ = fresh;
    Checkpoint(500);
    EXPECT_TRUE(Checkpoint(500));
    EXPECT_TRUE(Checkpoint(500, bytes));
    EXPECT_FALSE(Checkpoint(500, bytes)) << bytes;
  }
}

TEST_F(LogKeeperTest, WhatWasClearedOtherwiseBeginsANewRow) {
  Checkpoint(500);
  EXPECT_TRUE(Checkpoint(500));
  keeper_.OnCleared();
  EXPECT_TRUE(Checkpoint(5000)) << "the first of its row";
  EXPECT_TRUE(Checkpoint(6000));
}

}  // namespace
}  // namespace haven
