// SPDX-License-Identifier: Apache-2.0
#include "engine/base/random.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace haven {
namespace {

// The reference outputs of the authors' splitmix64.c for the seed 1234567.
TEST(SplitMix64Test, ReferenceSequence) {
  uint64_t state = 1234567;
  EXPECT_EQ(SplitMix64(state), 6457827717110365317u);
  EXPECT_EQ(SplitMix64(state), 3203168211198807973u);
  EXPECT_EQ(SplitMix64(state), 9817491932198370423u);
}

TEST(RandomTest, TheSameSeedGivesTheSameSequenceForEver) {
  Random a(42);
  Random b(42);
  Random c(43);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t value = a.Next();
    ASSERT_EQ(value, b.Next());
    differs |= value != c.Next();
  }
  EXPECT_TRUE(differs);
  // A kept seed of the simulation must mean the same run in later versions.
  EXPECT_EQ(Random(42).Next(), 1546998764402558742u);
}

TEST(RandomTest, BelowStaysBelowAndReachesEverything) {
  Random random(1);
  std::array<int, 10> seen{};
  for (int i = 0; i < 10'000; ++i) ++seen[random.Below(seen.size())];
  for (const int count : seen) EXPECT_NEAR(count, 1000, 150);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.Below(1), 0u);
  const uint64_t odd_bound = (uint64_t{1} << 63) + 1;
  for (int i = 0; i < 100; ++i) EXPECT_LT(random.Below(odd_bound), odd_bound);
}

TEST(RandomTest, BetweenIncludesBothEndsAndCoversTheWholeRange) {
  Random random(2);
  bool low = false;
  bool high = false;
  for (int i = 0; i < 1000; ++i) {
    const int64_t value = random.Between(-2, 2);
    ASSERT_GE(value, -2);
    ASSERT_LE(value, 2);
    low |= value == -2;
    high |= value == 2;
  }
  EXPECT_TRUE(low && high);
  EXPECT_EQ(random.Between(9, 9), 9);
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  bool negative = false;
  bool positive = false;
  for (int i = 0; i < 100; ++i) {
    const int64_t value = random.Between(kMin, kMax);
    negative |= value < 0;
    positive |= value > 0;
  }
  EXPECT_TRUE(negative && positive);
}

TEST(RandomTest, ChanceAndUnitHaveTheirMeans) {
  Random random(3);
  int hits = 0;
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) {
    hits += random.Chance(1, 4) ? 1 : 0;
    const double unit = random.Unit();
    ASSERT_GE(unit, 0.0);
    ASSERT_LT(unit, 1.0);
    sum += unit;
    ASSERT_FALSE(random.Chance(0, 5));
    ASSERT_TRUE(random.Chance(5, 5));
  }
  EXPECT_NEAR(hits, 2500, 200);
  EXPECT_NEAR(sum, 5000, 150);
}

TEST(RandomTest, FillCoversEveryLengthAndNothingBeyond) {
  for (size_t length = 0; length < 40; ++length) {
    std::vector<std::byte> bytes(length + 1, std::byte{0});
    // Many draws make it certain that each byte was written at least once with something other than
    // 0.
    std::vector<bool> touched(length, false);
    Random random(length);
    for (int i = 0; i < 64; ++i) {
      random.Fill(std::span(bytes).first(length));
      for (size_t at = 0; at < length; ++at) touched[at] = touched[at] || bytes[at] != std::byte{0};
    }
    EXPECT_EQ(std::count(touched.begin(), touched.end(), true), static_cast<ptrdiff_t>(length));
    EXPECT_EQ(bytes[length], std::byte{0});
  }
}

TEST(RandomDeathTest, RefusesEmptyRanges) {
  Random random(4);
  EXPECT_DEATH(random.Below(0), "bound > 0u");
  EXPECT_DEATH(random.Between(2, 1), "low <= high");
}

}  // namespace
}  // namespace haven
