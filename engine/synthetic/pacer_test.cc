// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/pacer.h"

#include "gtest/gtest.h"

namespace haven {
namespace {

uint64_t TakeAll(Pacer& pacer) {
  uint64_t count = 0;
  while (pacer.Take()) ++count;
  return count;
}

// Events in ten seconds when looked at every `step_ns`.
uint64_t InTenSeconds(uint64_t rate, int64_t step_ns) {
  Pacer pacer(rate, 0);
  uint64_t count = 0;
  for (int64_t now_ns = step_ns; now_ns <= 10 * kNsPerSecond; now_ns += step_ns) {
    pacer.Advance(now_ns);
    count += TakeAll(pacer);
  }
  return count;
}

TEST(PacerTest, TheRateIsKeptWithoutRounding) {
  for (const uint64_t rate : {0u, 1u, 3u, 99u, 1000u, 20'000u, 333'333u}) {
    EXPECT_EQ(InTenSeconds(rate, kNsPerMs), 10 * rate) << rate;
  }
  EXPECT_EQ(InTenSeconds(7, 10 * kNsPerMs), 70u);
}

TEST(PacerTest, NextIsWhenTheNextEventIsDue) {
  for (const uint64_t rate : {1u, 3u, 7u, 1000u, 999'983u}) {
    Pacer pacer(rate, 500);
    for (int i = 0; i < 100; ++i) {
      const int64_t next_ns = pacer.NextNs();
      pacer.Advance(next_ns - 1);
      EXPECT_FALSE(pacer.Take()) << rate;
      pacer.Advance(next_ns);
      EXPECT_LE(pacer.NextNs(), next_ns);
      EXPECT_TRUE(pacer.Take()) << rate;
    }
  }
}

TEST(PacerTest, OnlyABoundedBurstIsCaughtUpWith) {
  Pacer pacer(1000, 0);
  pacer.Advance(kNsPerSecond * 3600);
  EXPECT_EQ(TakeAll(pacer), 11u) << "ten milliseconds and the event that was due";
  Pacer fast(1'000'000'000, 0);
  fast.Advance(kNsPerSecond * 3600);
  EXPECT_EQ(TakeAll(fast), 10'000'001u);
}

TEST(PacerTest, SkippedTimeDoesNotCount) {
  Pacer pacer(1000, 0);
  pacer.Skip(kNsPerSecond);
  pacer.Advance(kNsPerSecond + kNsPerMs);
  EXPECT_EQ(TakeAll(pacer), 1u);
}

TEST(PacerTest, TimeThatGoesBackIsIgnored) {
  Pacer pacer(1000, kNsPerSecond);
  pacer.Advance(0);
  EXPECT_FALSE(pacer.Take());
}

}  // namespace
}  // namespace haven
