// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace haven {
namespace {

using ::testing::HasSubstr;

TEST(NegotiateFeaturesTest, TakesTheHighestCommonVersionAndAllCommonFeatures) {
  const FeatureOffer peer = {.version_min = 1, .version_max = 4, .required = 1, .optional = 6};
  const FeatureOffer own = {.version_min = 2, .version_max = 7, .required = 2, .optional = 9};
  const absl::StatusOr<FeatureAgreement> agreed = NegotiateFeatures(peer, own);
  ASSERT_TRUE(agreed.ok()) << agreed.status();
  EXPECT_EQ(*agreed, (FeatureAgreement{.version = 4, .features = 3}));
  EXPECT_EQ(*NegotiateFeatures(own, peer), *agreed);
}

TEST(NegotiateFeaturesTest, TwoOfThisBuildAgree) {
  const absl::StatusOr<FeatureAgreement> agreed = NegotiateFeatures({}, {});
  ASSERT_TRUE(agreed.ok()) << agreed.status();
  EXPECT_EQ(agreed->version, kFormatVersion);
  EXPECT_EQ(agreed->features, kUsualFeatures);
}

TEST(NegotiateFeaturesTest, UnknownOptionalBitIsLeftOut) {
  const FeatureOffer peer = {.optional = uint64_t{1} << 63};
  const absl::StatusOr<FeatureAgreement> agreed = NegotiateFeatures(peer, {});
  ASSERT_TRUE(agreed.ok()) << agreed.status();
  EXPECT_EQ(agreed->features, 0u);
}

struct Refusal {
  FeatureOffer peer;
  FeatureOffer own;
  absl::StatusCode code;
  std::string error;
};

TEST(NegotiateFeaturesTest, RefusesAndNamesTheCause) {
  constexpr auto kMalformed = absl::StatusCode::kInvalidArgument;
  constexpr auto kMismatch = absl::StatusCode::kFailedPrecondition;
  const Refusal cases[] = {
      {{.required = uint64_t{1} << 63},
       {},
       kMismatch,
       "feature bit 63 (without a name here) is required by the peer"},
      {{.required = 1, .optional = 0},
       {.optional = 0},
       kMismatch,
       "feature bit 0 (changed-blocks) is required by the peer"},
      {{}, {.required = 8}, kMismatch, "feature bit 3 (seal) is required by this side"},
      {{.required = 0x20}, {.optional = 0x1f}, kMismatch, "feature bit 5 (without a name here)"},
      {{.version_min = 2, .version_max = 3},
       {.version_min = 1, .version_max = 1},
       kMismatch,
       "the peer speaks 2 .. 3, this side 1 .. 1"},
      {{.version_min = 1, .version_max = 1},
       {.version_min = 2, .version_max = 3},
       kMismatch,
       "the peer speaks 1 .. 1, this side 2 .. 3"},
      {{.version_min = 0, .version_max = 1}, {}, kMalformed, "versions are 0 .. 1"},
      {{.version_min = 3, .version_max = 2}, {}, kMalformed, "versions are 3 .. 2"},
      {{}, {.version_min = 3, .version_max = 2}, kMalformed, "offer of this side"},
      {{.required = 4, .optional = 4},
       {.optional = 4},
       kMalformed,
       "bit 2 is both required and optional"},
  };
  for (const Refusal& c : cases) {
    const absl::StatusOr<FeatureAgreement> agreed = NegotiateFeatures(c.peer, c.own);
    EXPECT_EQ(agreed.status().code(), c.code) << c.error;
    EXPECT_THAT(std::string(agreed.status().message()), HasSubstr(c.error));
  }
}

TEST(VersionsOverlapTest, TouchingRangesOverlap) {
  EXPECT_TRUE(
      VersionsOverlap({.version_min = 1, .version_max = 2}, {.version_min = 2, .version_max = 3}));
  EXPECT_FALSE(
      VersionsOverlap({.version_min = 1, .version_max = 1}, {.version_min = 2, .version_max = 3}));
  EXPECT_FALSE(
      VersionsOverlap({.version_min = 2, .version_max = 3}, {.version_min = 1, .version_max = 1}));
}

TEST(FeatureNameTest, EveryReservedBitHasItsName) {
  const absl::string_view names[] = {"changed-blocks", "same-as", "compression", "seal",
                                     "packed-literals"};
  for (unsigned bit = 0; bit < 5; ++bit) EXPECT_EQ(FeatureName(bit), names[bit]);
  EXPECT_EQ(FeatureName(5), "");
  EXPECT_EQ(FeatureName(63), "");
  EXPECT_EQ(FeatureName(64), "");
}

}  // namespace
}  // namespace haven
