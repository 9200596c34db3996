// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/link.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "engine/base/clock.h"
#include "engine/base/random.h"

namespace haven {
namespace {

constexpr int64_t kNow = 5 * kNsPerSecond;

class LinkTest : public testing::Test {
 protected:
  Random random_{7};
  HubLink link_;
};

TEST_F(LinkTest, PerfectCableDeliversAtOnce) {
  const HubLink::Fate fate = link_.Offer(1500, kNow, random_);
  EXPECT_FALSE(fate.dropped);
  EXPECT_FALSE(fate.corrupted);
  EXPECT_FALSE(fate.duplicated);
  EXPECT_EQ(fate.due_ns, kNow);
  EXPECT_EQ(link_.counters().frames, 1);
  EXPECT_EQ(link_.counters().bytes, 1500);
}

TEST_F(LinkTest, CutDropsEverythingUntilHealed) {
  link_.SetRule({.cut = true});
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(link_.Offer(100, kNow, random_).dropped);
  EXPECT_EQ(link_.counters().cut, 10);
  EXPECT_EQ(link_.counters().frames, 10);
  link_.SetRule({});
  EXPECT_FALSE(link_.Offer(100, kNow, random_).dropped);
}

TEST_F(LinkTest, LossFollowsItsProbability) {
  link_.SetRule({.loss = 0.2});
  int dropped = 0;
  for (int i = 0; i < 10'000; ++i) dropped += link_.Offer(100, kNow, random_).dropped;
  EXPECT_NEAR(dropped, 2'000, 200);
  EXPECT_EQ(link_.counters().lost, dropped);
}

TEST_F(LinkTest, CertainLossLosesAllAndNoLossNone) {
  link_.SetRule({.loss = 1});
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(link_.Offer(100, kNow, random_).dropped);
  link_.SetRule({.loss = 0});
  for (int i = 0; i < 1'000; ++i) ASSERT_FALSE(link_.Offer(100, kNow, random_).dropped);
}

TEST_F(LinkTest, DelayIsAddedToEachFrame) {
  link_.SetRule({.delay_us = 2'000});
  EXPECT_EQ(link_.Offer(100, kNow, random_).due_ns, kNow + 2 * kNsPerMs);
  EXPECT_EQ(link_.Offer(100, kNow + 1, random_).due_ns, kNow + 1 + 2 * kNsPerMs);
}

TEST_F(LinkTest, JitterKeepsTheOrder) {
  link_.SetRule({.jitter_us = 10'000});
  int64_t before_ns = 0;
  bool varied = false;
  for (int64_t now_ns = kNow; now_ns < kNow + kNsPerSecond; now_ns += kNsPerMs) {
    const int64_t due_ns = link_.Offer(100, now_ns, random_).due_ns;
    EXPECT_GE(due_ns, before_ns);
    EXPECT_LE(due_ns, now_ns + 10 * kNsPerMs);
    varied |= due_ns != now_ns;
    before_ns = due_ns;
  }
  EXPECT_TRUE(varied);
}

TEST_F(LinkTest, FramesAfterADelayedOneDoNotOvertakeItWhenTheDelayEnds) {
  link_.SetRule({.delay_us = 50'000});
  const int64_t first_ns = link_.Offer(100, kNow, random_).due_ns;
  link_.SetRule({});
  EXPECT_EQ(link_.Offer(100, kNow + 1, random_).due_ns, first_ns);
}

TEST_F(LinkTest, ReorderedFramesAreOvertaken) {
  link_.SetRule({.reorder = 1, .reorder_us = 3'000});
  const int64_t held_ns = link_.Offer(100, kNow, random_).due_ns;
  EXPECT_EQ(held_ns, kNow + 3 * kNsPerMs);
  link_.SetRule({});
  EXPECT_EQ(link_.Offer(100, kNow + 1, random_).due_ns, kNow + 1);
  EXPECT_EQ(link_.counters().reordered, 1);
}

TEST_F(LinkTest, RateSpacesFramesAndItsQueueOverflows) {
  // 8 Mbit/s is one byte per microsecond.
  link_.SetRule({.rate_kbps = 8'000, .queue_bytes = 3'000});
  EXPECT_EQ(link_.Offer(1'000, kNow, random_).due_ns, kNow + kNsPerMs);
  EXPECT_EQ(link_.Offer(1'000, kNow, random_).due_ns, kNow + 2 * kNsPerMs);
  EXPECT_EQ(link_.Offer(1'000, kNow, random_).due_ns, kNow + 3 * kNsPerMs);
  EXPECT_TRUE(link_.Offer(1'000, kNow, random_).dropped);
  EXPECT_EQ(link_.counters().overflowed, 1);
  // The queue empties as time goes by, and an idle link owes nothing.
  EXPECT_EQ(link_.Offer(1'000, kNow + kNsPerMs, random_).due_ns, kNow + 4 * kNsPerMs);
  EXPECT_EQ(link_.Offer(1'000, kNow + kNsPerSecond, random_).due_ns,
            kNow + kNsPerSecond + kNsPerMs);
}

TEST_F(LinkTest, CorruptionAndDuplicationAreCounted) {
  link_.SetRule({.corrupt = 1, .duplicate = 1});
  const HubLink::Fate fate = link_.Offer(100, kNow, random_);
  EXPECT_TRUE(fate.corrupted);
  EXPECT_TRUE(fate.duplicated);
  EXPECT_EQ(link_.counters().corrupted, 1);
  EXPECT_EQ(link_.counters().duplicated, 1);
}

TEST(LinkSeedTest, TheSameSeedDecidesTheSame) {
  Random one(3);
  Random other(3);
  HubLink first;
  HubLink second;
  first.SetRule({.loss = 0.5});
  second.SetRule({.loss = 0.5});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(first.Offer(100, kNow, one).dropped, second.Offer(100, kNow, other).dropped);
  }
}

}  // namespace
}  // namespace haven
