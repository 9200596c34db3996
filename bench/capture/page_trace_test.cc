// SPDX-License-Identifier: Apache-2.0
#include "bench/capture/page_trace.h"

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TraceEpoch MakeEpoch(std::vector<uint32_t> gfns, uint64_t seed) {
  TraceEpoch epoch{.gfns = std::move(gfns), .pages = {}};
  epoch.pages.resize(epoch.gfns.size() * kPageBytes);
  Random(seed).Fill(epoch.pages);
  return epoch;
}

PageTrace MakeTrace() {
  return {.origin = "made by a test",
          .page_count = 100,
          .base = MakeEpoch({3, 4, 99}, 1),
          .epochs = {MakeEpoch({3, 50}, 2), MakeEpoch({}, 3), MakeEpoch({0, 99}, 4)}};
}

TEST(PageTrace, IsTheSameAfterEncodingAndDecoding) {
  const PageTrace trace = MakeTrace();
  const absl::StatusOr<std::vector<std::byte>> bytes = EncodeTrace(trace);
  ASSERT_TRUE(bytes.ok());
  const absl::StatusOr<PageTrace> decoded = DecodeTrace(*bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->origin, trace.origin);
  EXPECT_EQ(decoded->page_count, trace.page_count);
  EXPECT_EQ(decoded->base.gfns, trace.base.gfns);
  EXPECT_EQ(decoded->base.pages, trace.base.pages);
  ASSERT_EQ(decoded->epochs.size(), trace.epochs.size());
  for (size_t i = 0; i < trace.epochs.size(); ++i) {
    EXPECT_EQ(decoded->epochs[i].gfns, trace.epochs[i].gfns);
    EXPECT_EQ(decoded->epochs[i].pages, trace.epochs[i].pages);
  }
}

TEST(PageTrace, EveryCutIsRefused) {
  const absl::StatusOr<std::vector<std::byte>> bytes = EncodeTrace(MakeTrace());
  ASSERT_TRUE(bytes.ok());
  for (size_t keep = 0; keep < bytes->size(); keep += 97) {
    EXPECT_FALSE(DecodeTrace({bytes->begin(), bytes->begin() + static_cast<long>(keep)}).ok());
  }
}

TEST(PageTrace, FrameNumbersMustAscendBelowThePageCount) {
  PageTrace trace = MakeTrace();
  trace.epochs[0].gfns = {50, 50};
  EXPECT_FALSE(DecodeTrace(*EncodeTrace(trace)).ok());
  trace.epochs[0].gfns = {50, 100};
  EXPECT_FALSE(DecodeTrace(*EncodeTrace(trace)).ok());
}

TEST(PageTrace, MissingFileIsNamed) {
  const absl::StatusOr<PageTrace> trace = ReadTrace("no/such/file");
  EXPECT_TRUE(absl::IsNotFound(trace.status()));
  EXPECT_NE(trace.status().message().find("no/such/file"), absl::string_view::npos);
}

}  // namespace
}  // namespace haven
