// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/log_keeper.h"

#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint64_t kMostPages = 10'000;
constexpr uint64_t kBytes = uint64_t{1} << 20;

class LogKeeperTest : public ::testing::Test {
 protected:
  // A checkpoint whose log has so many pages, all of them changed, or all but some; whether it was
  // kept.
  bool Checkpoint(uint64_t pages, uint64_t bytes = kBytes, bool coded = true,
                  uint64_t unchanged = 0) {
    const bool kept = keeper_.Keep() && keeper_.Fits(pages);
    if (kept) {
      keeper_.OnKept(pages);
    } else {
      keeper_.OnNotKept();
    }
    keeper_.OnEncoded(pages - unchanged, bytes, coded);
    return kept;
  }
  // Of a guest that writes `pages` others in each epoch, and whose log is cleared as soon as it
  // says so: how many of so many checkpoints keep it.
  int KeptOfAStream(uint64_t pages, int checkpoints) {
    int kept = 0;
    uint64_t logged = 0;
    for (int i = 0; i < checkpoints; ++i) {
      if (keeper_.ClearBetween()) {
        keeper_.OnCleared();
        logged = 0;
      }
      logged += pages;
      const bool keeps = Checkpoint(logged, kBytes, true, logged - pages);
      kept += keeps ? 1 : 0;
      if (!keeps) logged = 0;
    }
    return kept;
  }

  LogKeeper keeper_{kMostPages};
};

TEST_F(LogKeeperTest, TheFirstCheckpointClears) { EXPECT_FALSE(Checkpoint(500)); }

TEST_F(LogKeeperTest, PagesThatChangeEachTimeAreKept) {
  Checkpoint(500);
  for (uint32_t i = 0; i < LogKeeper::kMostInARow; ++i) EXPECT_TRUE(Checkpoint(500)) << i;
}

TEST_F(LogKeeperTest, ItIsClearedWhenThatHasBecomeAsCheap) {
  Checkpoint(500);
  for (int round = 0; round < 3; ++round) {
    // Each time a tenth of its pages had not changed.
    uint64_t kept = 0;
    for (; !keeper_.ClearBetween(); ++kept) EXPECT_TRUE(Checkpoint(500, kBytes, true, 50));
    EXPECT_EQ(kept, 2 + 10 * LogKeeper::kPagesOfAFault);
    EXPECT_FALSE(Checkpoint(500));
    EXPECT_FALSE(keeper_.ClearBetween());
  }
}

TEST_F(LogKeeperTest, ClearedBetweenCheckpointsTheNextOneKeepsItAtOnce) {
  Checkpoint(500);
  EXPECT_TRUE(Checkpoint(500));
  while (!keeper_.ClearBetween()) EXPECT_TRUE(Checkpoint(500, kBytes, true, 50));
  keeper_.OnCleared();
  EXPECT_FALSE(keeper_.ClearBetween());
  // What was dirtied before as well: it says nothing of one epoch, nor of what was in vain.
  EXPECT_TRUE(Checkpoint(5000, 8 * kBytes, true, 4900));
  EXPECT_TRUE(Checkpoint(500));
  for (uint64_t i = 0; i <= 10 * LogKeeper::kPagesOfAFault; ++i) {
    EXPECT_FALSE(keeper_.ClearBetween()) << i;
    EXPECT_TRUE(Checkpoint(500, kBytes, true, 50)) << i;
  }
  EXPECT_TRUE(keeper_.ClearBetween());
}

TEST_F(LogKeeperTest, ABurstDoesNotStayInIt) {
  Checkpoint(500);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Checkpoint(500));
  EXPECT_TRUE(Checkpoint(1800)) << "most of it new, and all written";
  EXPECT_FALSE(keeper_.ClearBetween());
  for (int i = 0; i < 4; ++i) Checkpoint(1800, kBytes, true, 1300);
  EXPECT_TRUE(keeper_.ClearBetween());
}

TEST_F(LogKeeperTest, NorOneThatIsManyTimesAsLarge) {
  Checkpoint(500);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Checkpoint(500));
  EXPECT_TRUE(Checkpoint(2016));
  EXPECT_FALSE(keeper_.ClearBetween());
  EXPECT_TRUE(Checkpoint(2017));
  EXPECT_TRUE(keeper_.ClearBetween());
}

TEST_F(LogKeeperTest, ItIsNotKeptForEverWhereNobodyKnowsWhatHadChanged) {
  Checkpoint(500);
  for (uint32_t i = 0; i < LogKeeper::kMostInARow; ++i) {
    EXPECT_FALSE(keeper_.ClearBetween()) << i;
    EXPECT_TRUE(Checkpoint(500)) << i;
  }
  EXPECT_TRUE(keeper_.ClearBetween());
  EXPECT_FALSE(Checkpoint(500)) << "if nobody cleared it in between";
}

TEST_F(LogKeeperTest, WhoWritesNextToNothingMayWriteALittleMore) {
  Checkpoint(0);
  EXPECT_TRUE(Checkpoint(0));
  EXPECT_TRUE(Checkpoint(7));
  EXPECT_TRUE(Checkpoint(7, kBytes, true, 7));
  EXPECT_TRUE(Checkpoint(8, kBytes, true, 7));
  EXPECT_FALSE(Checkpoint(8)) << "it spares nothing";
}

TEST_F(LogKeeperTest, AStreamOfNewPagesIsTriedMoreAndMoreSeldom) {
  Checkpoint(500);
  EXPECT_LT(KeptOfAStream(500, 1000), 70) << "three of an attempt";
  // It writes the same again: noticed at the next attempt.
  int cleared = 0;
  for (int i = 0; i < 1000; ++i) cleared += Checkpoint(500) ? 0 : 1;
  EXPECT_LE(cleared, static_cast<int>(LogKeeper::kMostRest));
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
  EXPECT_FALSE(Checkpoint(kMostPages + 1));
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
  EXPECT_TRUE(Checkpoint(4000)) << "the first of its row";
  EXPECT_TRUE(Checkpoint(8000));
}

}  // namespace
}  // namespace haven
