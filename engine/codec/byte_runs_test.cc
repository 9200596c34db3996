// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/byte_runs.h"

#include <algorithm>
#include <vector>

#include "engine/base/random.h"
#include "engine/codec/directory_writer.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

struct Runs {
  std::vector<ByteRun> runs;
  size_t cost = 0;
};

// The obvious way: byte by byte, and a run goes on over up to two unchanged bytes.
Runs Expected(const std::byte* before, const std::byte* after) {
  Runs found;
  for (size_t at = 0; at < kPageBytes; ++at) {
    if (before[at] == after[at]) continue;
    if (!found.runs.empty()) {
      ByteRun& last = found.runs.back();
      if (at - (size_t{last.at} + last.bytes) <= 2) {
        last.bytes = static_cast<uint16_t>(at + 1 - last.at);
        continue;
      }
    }
    found.runs.push_back({.at = static_cast<uint16_t>(at), .bytes = 1});
  }
  found.cost = VarintBytes(static_cast<uint32_t>(found.runs.size()));
  uint32_t end = 0;
  for (const ByteRun& run : found.runs) {
    found.cost += VarintBytes(run.at - end) + VarintBytes(run.bytes - 1u) + run.bytes;
    end = uint32_t{run.at} + run.bytes;
  }
  return found;
}

TEST(ByteRuns, AreFoundWhereTheySaveAByteAndNotOtherwise) {
  Random random(7);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> before(kPageBytes);
    random.Fill(before);
    std::vector<std::byte> after = before;
    // From a few single bytes to stretches over several lines, often at the lines' ends.
    for (uint64_t changes = 1 + random.Below(60); changes > 0; --changes) {
      const size_t first = random.Below(4) == 0
                               ? kLineBytes * (1 + random.Below(kPageLines - 1)) - random.Below(4)
                               : random.Below(kPageBytes);
      const size_t length = std::min<size_t>(kPageBytes - first, 1 + random.Below(200) % 70);
      for (size_t at = first; at < first + length; ++at) after[at] ^= std::byte{0x5a};
    }
    const Runs expected = Expected(before.data(), after.data());
    if (expected.runs.empty() || expected.runs.size() >= kMaxByteRuns) continue;
    for (const BlockKernels* kernels : AvailableKernels()) {
      const uint64_t lines = kernels->changed_lines(before.data(), after.data());
      CodedPage page;
      size_t cost = 0;
      EXPECT_FALSE(
          FindByteRuns(*kernels, before.data(), after.data(), lines, expected.cost, &page, &cost));
      ASSERT_TRUE(FindByteRuns(*kernels, before.data(), after.data(), lines, expected.cost + 1,
                               &page, &cost));
      EXPECT_EQ(cost, expected.cost);
      ASSERT_EQ(page.run_count, expected.runs.size());
      for (size_t i = 0; i < expected.runs.size(); ++i) {
        EXPECT_EQ(page.runs[i].at, expected.runs[i].at) << i;
        EXPECT_EQ(page.runs[i].bytes, expected.runs[i].bytes) << i;
      }
    }
  }
}

TEST(ByteRuns, OnlyLinesThatAreAskedForAreLookedAt) {
  std::vector<std::byte> before(kPageBytes);
  std::vector<std::byte> after = before;
  after[3] = after[kLineBytes + 5] = std::byte{1};
  CodedPage page;
  size_t cost = 0;
  ASSERT_TRUE(FindByteRuns(BestKernels(), before.data(), after.data(), 2, 100, &page, &cost));
  ASSERT_EQ(page.run_count, 1u);
  EXPECT_EQ(page.runs[0].at, kLineBytes + 5);
}

}  // namespace
}  // namespace haven
