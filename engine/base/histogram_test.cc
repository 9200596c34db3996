// SPDX-License-Identifier: Apache-2.0
#include "engine/base/histogram.h"

#include <algorithm>
#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(HistogramTest, EmptyReportsZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.QuantileNs(500), 0u);
  EXPECT_EQ(histogram.QuantileNs(1000), 0u);
  EXPECT_EQ(histogram.max_ns(), 0u);
}

TEST(HistogramTest, OneValueIsEveryQuantile) {
  Histogram histogram;
  histogram.Record(123'456'789);
  for (uint32_t per_mille : {0u, 1u, 500u, 999u, 1000u}) {
    EXPECT_EQ(histogram.QuantileNs(per_mille), 123'456'789u) << per_mille;
  }
  EXPECT_EQ(histogram.last_ns(), 123'456'789u);
}

TEST(HistogramTest, SmallValuesAreExact) {
  Histogram histogram;
  for (int64_t ns = 0; ns < 256; ++ns) histogram.Record(ns);
  EXPECT_EQ(histogram.QuantileNs(0), 0u);
  EXPECT_EQ(histogram.QuantileNs(500), 127u);
  EXPECT_EQ(histogram.QuantileNs(1000), 255u);
}

TEST(HistogramTest, NegativeCountsAsZero) {
  Histogram histogram;
  histogram.Record(-5);
  histogram.Record(INT64_MIN);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.max_ns(), 0u);
  EXPECT_EQ(histogram.QuantileNs(1000), 0u);
}

TEST(HistogramTest, HugeValueKeepsItsMaximum) {
  Histogram histogram;
  histogram.Record(1000);
  histogram.Record(INT64_MAX);
  EXPECT_EQ(histogram.max_ns(), static_cast<uint64_t>(INT64_MAX));
  EXPECT_EQ(histogram.QuantileNs(1000), static_cast<uint64_t>(INT64_MAX));
  EXPECT_LE(histogram.QuantileNs(500), 1000u + 1000 / 128);
}

TEST(HistogramTest, ResetForgets) {
  Histogram histogram;
  histogram.Record(7);
  histogram.Reset();
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.max_ns(), 0u);
  EXPECT_EQ(histogram.QuantileNs(500), 0u);
}

// Against the exact quantiles of sorted values, over the whole range.
TEST(HistogramTest, QuantilesAreWithinOnePartIn128) {
  Random random(7);
  for (int round = 0; round < 20; ++round) {
    Histogram histogram;
    std::vector<uint64_t> values;
    for (int i = 0; i < 2345; ++i) {
      const uint64_t value = random.Next() >> (64 - random.Below(Histogram::kValueBits) - 1);
      values.push_back(value);
      histogram.Record(static_cast<int64_t>(value));
    }
    std::sort(values.begin(), values.end());
    ASSERT_EQ(histogram.max_ns(), values.back());
    for (uint32_t per_mille : {1u, 10u, 250u, 500u, 900u, 990u, 999u, 1000u}) {
      const size_t rank = (values.size() * per_mille + 999) / 1000;
      const uint64_t exact = values[rank - 1];
      const uint64_t reported = histogram.QuantileNs(per_mille);
      EXPECT_GE(reported, exact);
      EXPECT_LE(reported - exact, exact / 128) << per_mille;
    }
  }
}

}  // namespace
}  // namespace haven
