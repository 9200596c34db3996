// SPDX-License-Identifier: Apache-2.0
#include "engine/base/clock.h"

#include "engine/base/manual_clock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(SystemClockTest, MonotonicTimeAdvancesAndNeverGoesBack) {
  const Clock& clock = SystemClock::Get();
  const int64_t start_ns = clock.NowNs();
  int64_t last_ns = start_ns;
  // Ends as soon as the clock has moved; its resolution is far below a millisecond.
  while (last_ns < start_ns + kNsPerMs) {
    const int64_t now_ns = clock.NowNs();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
}

TEST(SystemClockTest, WallTimeIsAfterThisWasWritten) {
  EXPECT_GT(SystemClock::Get().WallNs(), 1'760'000'000 * kNsPerSecond);
}

TEST(ManualClockTest, MovesOnlyWhenTold) {
  ManualClock clock(5, 100);
  EXPECT_EQ(clock.NowNs(), 5);
  EXPECT_EQ(clock.WallNs(), 100);
  clock.AdvanceNs(10);
  EXPECT_EQ(clock.NowNs(), 15);
  EXPECT_EQ(clock.WallNs(), 110);
}

TEST(ManualClockTest, AWallClockJumpLeavesMonotonicTimeAlone) {
  ManualClock clock(5, 100);
  clock.SetWallNs(-7);
  EXPECT_EQ(clock.NowNs(), 5);
  EXPECT_EQ(clock.WallNs(), -7);
}

TEST(ManualClockDeathTest, DoesNotGoBack) {
  ManualClock clock;
  EXPECT_DEATH(clock.AdvanceNs(-1), "check failed");
}

}  // namespace
}  // namespace haven
