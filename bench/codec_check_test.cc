// SPDX-License-Identifier: Apache-2.0
#include "bench/codec_check.h"

#include <set>
#include <string>
#include <vector>

#include "bench/codec_cases.h"
#include "engine/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ReplayResult Sent(const char* name, uint64_t bytes) {
  ReplayResult result;
  result.name = name;
  result.pages = 10;
  result.wire_bytes = bytes;
  return result;
}

// Where all is as it must be.
CodecSizes Good() {
  return {.tracking = Sent("plain", 3000),
          .peers = {Sent("lz4", 1500), Sent("zstd -1", 1000)},
          .levels = {Sent("level blocks", 1200), Sent("level dense", 1000)},
          .write_heavy = true};
}

TEST(CodecCheck, OneLevelThatIsAsSmallAsTheBestPeerIsEnough) {
  EXPECT_THAT(FindShortfalls(Good()), IsEmpty());
}

TEST(CodecCheck, MoreBytesThanTheBestPeerFallShort) {
  CodecSizes sizes = Good();
  sizes.peers[1].wire_bytes = 999;
  EXPECT_THAT(FindShortfalls(sizes),
              ElementsAre(HasSubstr("level dense 1000 bytes, zstd -1 999 bytes")));
}

TEST(CodecCheck, AWriteHeavyLoadNeedsAThirdOfPageTracking) {
  CodecSizes sizes = Good();
  sizes.tracking.wire_bytes = 2999;
  EXPECT_THAT(FindShortfalls(sizes), ElementsAre(HasSubstr("3 times fewer bytes")));
  sizes.write_heavy = false;
  EXPECT_THAT(FindShortfalls(sizes), IsEmpty());
}

TEST(CodecCheck, AReplicaThatDiffersIsNamed) {
  CodecSizes sizes = Good();
  sizes.levels[0].equal = false;
  EXPECT_THAT(FindShortfalls(sizes), ElementsAre(HasSubstr("level blocks: the replica")));
}

// Pages of noise in each interval, all of them new: no method can do anything about them.
PageTrace Noise() {
  PageTrace trace;
  trace.page_count = 128;
  Random random(1);
  for (int epoch = 0; epoch < 2; ++epoch) {
    TraceEpoch& interval = trace.epochs.emplace_back();
    for (uint32_t gfn = 0; gfn < trace.page_count; ++gfn) interval.gfns.push_back(gfn);
    interval.pages.resize(trace.page_count * kPageBytes);
    random.Fill(interval.pages);
  }
  return trace;
}

TEST(CodecCheck, NoiseIsNoTraceOfAWriteHeavyLoad) { EXPECT_FALSE(CheckTrace("keyvalue", Noise())); }

// A byte changes in each page: what the codec is for.
TEST(CodecCheck, SmallChangesPass) {
  PageTrace trace = Noise();
  trace.base = trace.epochs.back();
  trace.epochs = {trace.base};
  std::vector<std::byte>& pages = trace.epochs.front().pages;
  for (size_t at = 7; at < pages.size(); at += kPageBytes) pages[at] ^= std::byte{1};
  EXPECT_TRUE(CheckTrace("keyvalue", trace));
}

TEST(CodecCases, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const CodecCase& one : AllCases()) EXPECT_TRUE(names.insert(one.name).second) << one.name;
  EXPECT_THAT(names, testing::IsSupersetOf({"hash 64", "both 128", "level dense 256"}));
}

}  // namespace
}  // namespace haven
