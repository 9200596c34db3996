// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/dirty_words.h"

#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using Words = std::vector<uint64_t>;

// Sizes around whole lines, each with words set here and there.
std::vector<Words> Samples() {
  Random random(7);
  std::vector<Words> samples;
  for (size_t size = 0; size <= 40; ++size) {
    for (const uint64_t one_in : {1u, 3u, 20u}) {
      Words words(size);
      for (uint64_t& word : words) {
        if (random.Chance(1, one_in)) word = uint64_t{1} << random.Below(64);
      }
      samples.push_back(std::move(words));
    }
  }
  return samples;
}

TEST(DirtyWordsTest, FindsEveryWordThatIsSetFromEveryStart) {
  for (const Words& words : Samples()) {
    for (size_t from = 0; from <= words.size(); ++from) {
      size_t expected = from;
      while (expected < words.size() && words[expected] == 0) ++expected;
      EXPECT_EQ(FindNonZero(words, from), expected) << "size=" << words.size() << " from=" << from;
    }
  }
}

TEST(DirtyWordsTest, CountsEveryBitOnce) {
  for (const Words& words : Samples()) {
    uint64_t expected = 0;
    for (const uint64_t word : words) {
      for (unsigned bit = 0; bit < 64; ++bit) expected += (word >> bit) & 1;
    }
    EXPECT_EQ(CountSet(words), expected) << "size=" << words.size();
  }
  EXPECT_EQ(CountSet(Words(9, ~uint64_t{0})), 9u * 64);
}

TEST(DirtyWordsTest, MergesEveryBitAndLosesNone) {
  for (const Words& log : Samples()) {
    Words bitmap(log.size(), 0x8001);
    MergeDirtyLog(log, bitmap);
    for (size_t i = 0; i < log.size(); ++i) EXPECT_EQ(bitmap[i], log[i] | 0x8001) << i;
  }
}

TEST(DirtyWordsTest, MovesEveryBitAndClearsTheLog) {
  for (const Words& log : Samples()) {
    Words moved = log;
    Words bitmap(log.size(), 0x8001);
    MoveDirtyLog(moved, bitmap);
    EXPECT_EQ(moved, Words(log.size()));
    for (size_t i = 0; i < log.size(); ++i) EXPECT_EQ(bitmap[i], log[i] | 0x8001) << i;
  }
}

TEST(DirtyWordsDeathTest, DifferentSizesAreAMistake) {
  Words small(3);
  Words large(4);
  EXPECT_DEATH(MergeDirtyLog(small, large), "log.size");
  EXPECT_DEATH(MoveDirtyLog(large, small), "log.size");
}

}  // namespace
}  // namespace haven
