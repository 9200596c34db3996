// SPDX-License-Identifier: Apache-2.0
#include "engine/control/time_limit.h"

#include <cstdint>

#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(LongestStepTest, GrowsWithTheEpochAndIsBounded) {
  EXPECT_EQ(LongestStepNs(0), 0);
  EXPECT_EQ(LongestStepNs((uint64_t{256} << 20) - 1), 0);
  EXPECT_EQ(LongestStepNs(uint64_t{256} << 20), kNsPerSecond);
  EXPECT_EQ(LongestStepNs(uint64_t{16} << 30), 64 * kNsPerSecond);
  EXPECT_EQ(LongestStepNs(UINT64_MAX), 3600 * kNsPerSecond);
}

TEST(LongestBuildTest, GrowsWithTheGuestsAndIsBounded) {
  EXPECT_EQ(LongestBuildNs((uint64_t{1} << 18) - 1), 0);
  EXPECT_EQ(LongestBuildNs(uint64_t{1} << 18), kNsPerSecond);
  EXPECT_EQ(LongestBuildNs(UINT64_MAX), 3600 * kNsPerSecond);
}

TEST(TimeLimitTest, PassedLimitLeavesNoTime) {
  const TimeLimit limit(-absl::Seconds(1));
  EXPECT_TRUE(limit.Passed());
  EXPECT_EQ(limit.Remaining(), absl::ZeroDuration());
  EXPECT_EQ(limit.PollMs(), 0);
}

TEST(TimeLimitTest, StepIsCutToWhatIsLeftAndEndlessToADay) {
  const TimeLimit limit(absl::InfiniteDuration());
  EXPECT_FALSE(limit.Passed());
  EXPECT_LE(limit.Remaining(), absl::Hours(24));
  EXPECT_EQ(limit.Step(absl::Seconds(1)), absl::Seconds(1));
  EXPECT_LE(TimeLimit(absl::Milliseconds(1)).Step(absl::Seconds(1)), absl::Milliseconds(1));
}

}  // namespace
}  // namespace haven
