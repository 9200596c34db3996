// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_terms.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;

Hello TestHello(uint32_t max_epoch_slots) {
  Hello hello;
  hello.node_id = "host-a";
  hello.group = "web";
  hello.session = 5;
  hello.slot_bytes = kMinSlotBytes;
  hello.max_epoch_slots = max_epoch_slots;
  hello.domains = {{.name = "g1",
                    .uuid = "00000000-0000-4000-8000-000000000001",
                    .config = "",
                    .page_count = 64,
                    .max_state_bytes = 8,
                    .ram = {{0, 64}}}};
  return hello;
}

// The smallest and the largest epoch, and what two of them need.
void ExpectCovers(const JournalGeometry& geometry, uint64_t epoch) {
  EXPECT_TRUE(geometry.Validate().ok()) << geometry.Validate();
  EXPECT_GE(uint64_t{geometry.slots()}, 2 * epoch);
  EXPECT_GE(geometry.ring_slots + uint64_t{kMaxEpochExtents} * geometry.extent_slots, epoch);
  EXPECT_FALSE(CheckCovers(geometry, epoch).has_value());
}

TEST(SessionTermsTest, TheRingTakesTwoOfTheLargestEpochs) {
  for (const uint32_t epoch : {1u, 2u, 15u, 16u, 1000u, 50000u}) {
    const TermsDecision decision = DecideTerms(TestHello(epoch), {}, {});
    ASSERT_TRUE(decision.terms.has_value()) << decision.refuse.message;
    const JournalGeometry& geometry = decision.terms->geometry;
    EXPECT_EQ(geometry.ring_slots, 2 * epoch);
    EXPECT_EQ(geometry.pool_slots, 0u);
    ExpectCovers(geometry, epoch);
    EXPECT_TRUE(CheckCovers(geometry, epoch + 1).has_value());
  }
}

TEST(SessionTermsTest, WhatASmallRingLacksLiesInThePool) {
  JournalOptions options;
  for (const uint32_t epoch : {1u, 3u, 64u, 1023u, 1024u, 1025u, 5000u, 20000u}) {
    for (const uint64_t ring : {1u, 2u, 100u, 4000u}) {
      options.ring_bytes = ring * kMinSlotBytes;
      const TermsDecision decision = DecideTerms(TestHello(epoch), {}, options);
      ASSERT_TRUE(decision.terms.has_value()) << decision.refuse.message;
      EXPECT_EQ(decision.terms->geometry.ring_slots, std::max<uint64_t>(ring, kMinRingSlots));
      ExpectCovers(decision.terms->geometry, epoch);
    }
  }
}

TEST(SessionTermsTest, WhatIsKeptBesideTheJournalIsBounded) {
  const JournalOptions options{.max_bytes = uint64_t{64} << 20};
  Hello hello = TestHello(10);
  hello.domains[0].page_count = (options.max_bytes - 16) / 3 * 8;
  EXPECT_TRUE(DecideTerms(hello, {}, options).terms.has_value());
  hello.domains[0].page_count += 8;
  const TermsDecision pages = DecideTerms(hello, {}, options);
  EXPECT_FALSE(pages.terms.has_value());
  EXPECT_EQ(pages.refuse.code, RefuseCode::kMemory);
  EXPECT_THAT(pages.refuse.message, HasSubstr("this backup allows 67108864"));
  hello.domains[0].page_count = 64;
  hello.domains[0].max_state_bytes = 40 << 20;
  EXPECT_EQ(DecideTerms(hello, {}, options).refuse.code, RefuseCode::kMemory);
}

TEST(SessionTermsTest, APoolThatIsWantedIsAdded) {
  JournalOptions options;
  options.pool_bytes = 100 * kMinSlotBytes;
  const TermsDecision decision = DecideTerms(TestHello(10), {}, options);
  ASSERT_TRUE(decision.terms.has_value());
  EXPECT_EQ(decision.terms->geometry.ring_slots, 20u);
  EXPECT_EQ(decision.terms->geometry.pool_slots, 112u) << "whole extents";
}

TEST(SessionTermsTest, TheLimitIsExact) {
  JournalOptions options;
  options.max_bytes = kControlBlockBytes + 20 * kMinSlotBytes;
  EXPECT_TRUE(DecideTerms(TestHello(10), {}, options).terms.has_value());
  options.max_bytes -= 1;
  const TermsDecision decision = DecideTerms(TestHello(10), {}, options);
  EXPECT_FALSE(decision.terms.has_value());
  EXPECT_EQ(decision.refuse.code, RefuseCode::kGeometry);
  EXPECT_THAT(decision.refuse.message, HasSubstr("staging smaller"));
}

TEST(SessionTermsTest, EpochsBeyondAllBoundsAreRefused) {
  JournalOptions options;
  options.max_bytes = UINT64_MAX;
  Hello hello = TestHello(UINT32_MAX);
  hello.slot_bytes = kMaxSlotBytes;
  EXPECT_EQ(DecideTerms(hello, {}, options).refuse.code, RefuseCode::kGeometry);
  options.ring_bytes = UINT64_MAX;
  EXPECT_EQ(DecideTerms(TestHello(1), {}, options).refuse.code, RefuseCode::kGeometry);
  options = {.max_bytes = UINT64_MAX, .ring_bytes = 0, .pool_bytes = UINT64_MAX};
  EXPECT_EQ(DecideTerms(TestHello(1), {}, options).refuse.code, RefuseCode::kGeometry);
}

TEST(SessionTermsTest, VersionAndFeaturesAreAgreedOn) {
  Hello hello = TestHello(10);
  hello.offer.optional = 6;
  const FeatureOffer own = {.version_min = 1, .version_max = 1, .required = 2, .optional = 8};
  const TermsDecision decision = DecideTerms(hello, own, {});
  ASSERT_TRUE(decision.terms.has_value()) << decision.refuse.message;
  EXPECT_EQ(decision.terms->agreement.features, 2u);
  EXPECT_EQ(decision.terms->group, "web");
  EXPECT_EQ(decision.terms->domains, hello.domains);
  hello.offer.optional = 4;
  EXPECT_EQ(DecideTerms(hello, own, {}).refuse.code, RefuseCode::kFeature);
  hello.offer.version_min = hello.offer.version_max = 2;
  EXPECT_EQ(DecideTerms(hello, own, {}).refuse.code, RefuseCode::kVersion);
}

TEST(SessionTermsTest, ALaterHelloMustFit) {
  const FeatureOffer own;
  const Hello hello = TestHello(10);
  const SessionTerms terms = *DecideTerms(hello, own, {}).terms;
  EXPECT_FALSE(CheckAgainstTerms(hello, own, terms).has_value());
  Hello smaller = hello;
  smaller.max_epoch_slots = 3;
  EXPECT_FALSE(CheckAgainstTerms(smaller, own, terms).has_value());

  const auto code = [&](auto&& change) {
    Hello other = hello;
    change(other);
    const std::optional<Refuse> refuse = CheckAgainstTerms(other, own, terms);
    return refuse.has_value() ? std::optional<RefuseCode>(refuse->code) : std::nullopt;
  };
  EXPECT_EQ(code([](Hello& h) { h.group = "mail"; }), RefuseCode::kAuth);
  EXPECT_EQ(code([](Hello& h) { h.offer.required = 1; }), RefuseCode::kFeature);
  EXPECT_EQ(code([](Hello& h) { h.slot_bytes *= 2; }), RefuseCode::kGeometry);
  EXPECT_EQ(code([](Hello& h) { h.max_epoch_slots = 11; }), RefuseCode::kGeometry);
  EXPECT_EQ(code([](Hello& h) { h.domains.clear(); }), RefuseCode::kDomain);
  EXPECT_EQ(code([](Hello& h) { h.domains[0].page_count++; }), RefuseCode::kDomain);
}

TEST(SessionTermsTest, OtherFeaturesThanTheReplicasAreRefused) {
  FeatureOffer own;
  own.optional = 1;
  Hello hello = TestHello(10);
  hello.offer.optional = 1;
  const SessionTerms terms = *DecideTerms(hello, own, {}).terms;
  hello.offer.optional = 0;
  const std::optional<Refuse> refuse = CheckAgainstTerms(hello, own, terms);
  ASSERT_TRUE(refuse.has_value());
  EXPECT_EQ(refuse->code, RefuseCode::kFeature);
}

}  // namespace
}  // namespace haven
