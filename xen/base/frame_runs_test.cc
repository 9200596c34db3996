// SPDX-License-Identifier: Apache-2.0
#include "xen/base/frame_runs.h"

#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

std::vector<FrameRange> AllRuns(const std::vector<uint64_t>& bitmap, uint64_t from, uint64_t end) {
  std::vector<FrameRange> runs;
  for (FrameRange run = NextFrameRange(bitmap, from, end); !run.empty();
       run = NextFrameRange(bitmap, run.end, end)) {
    runs.push_back(run);
  }
  return runs;
}

TEST(FrameRuns, AnEmptyBitmapHasNone) {
  EXPECT_TRUE(NextFrameRange({}, 0, 0).empty());
  EXPECT_TRUE(NextFrameRange(std::vector<uint64_t>(3, 0), 0, 192).empty());
}

TEST(FrameRuns, CrossesWords) {
  const std::vector<uint64_t> bitmap = {uint64_t{1} << 63, ~uint64_t{0}, 1};
  EXPECT_EQ(AllRuns(bitmap, 0, 192), (std::vector<FrameRange>{{63, 129}}));
}

TEST(FrameRuns, EndsAtTheEndThoughBitsBeyondAreSet) {
  const std::vector<uint64_t> bitmap = {~uint64_t{0}};
  EXPECT_EQ(AllRuns(bitmap, 10, 20), (std::vector<FrameRange>{{10, 20}}));
  EXPECT_TRUE(NextFrameRange(bitmap, 20, 20).empty());
}

TEST(FrameRuns, EveryBitIsInTheRunItBelongsTo) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<uint64_t> bitmap(5);
    // Dense, sparse and mixed words.
    for (uint64_t& word : bitmap) {
      word = random.Next();
      if (round % 3 == 1) word &= random.Next() & random.Next();
      if (round % 3 == 2) word |= random.Next() | random.Next();
    }
    const uint64_t end = 1 + random.Next() % 320;
    std::vector<bool> expected(end);
    std::vector<bool> found(end, false);
    for (uint64_t i = 0; i < end; ++i) expected[i] = ((bitmap[i / 64] >> (i % 64)) & 1) != 0;
    uint64_t last_end = 0;
    for (const FrameRange& run : AllRuns(bitmap, 0, end)) {
      EXPECT_TRUE(last_end == 0 || run.first > last_end) << "touching runs are one";
      for (uint64_t i = run.first; i < run.end; ++i) found[i] = true;
      last_end = run.end;
    }
    EXPECT_EQ(found, expected);
  }
}

}  // namespace
}  // namespace haven
