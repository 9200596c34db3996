// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/codec_policy.h"

#include <algorithm>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// A wire and a processor: what an epoch takes at each level.
struct World {
  double ns_per_byte = 0.1;
  double ns_per_epoch = 20000;
  double encode_ns[kCodecLevels] = {100, 500, 1500, 3000};
  double bytes[kCodecLevels] = {4112, 400, 240, 170};
  double decode_ns[kCodecLevels] = {0, 0, 0, 0};  // Part of the wire's time.
  uint64_t least_pages = 500;
  uint64_t most_pages = 1500;
  // Around the times, either way; and of each 100 epochs so many encode four times as long.
  double noise = 0.05;
  uint64_t stalls = 0;
  // The first coded epochs in a row send whole pages.
  bool fills_baselines = false;

  double Nanoseconds(CodecLevel level, uint64_t pages) const {
    const size_t i = static_cast<size_t>(level);
    return ns_per_epoch +
           static_cast<double>(pages) * (encode_ns[i] + decode_ns[i] + bytes[i] * ns_per_byte);
  }
};

struct Outcome {
  double total_ns = 0;
  double off_ns = 0;  // At level off all the time.
  CodecLevel last = CodecLevel::kOff;
  int others = 0;   // Epochs at another level than off.
  int changes = 0;  // Of the level in use.
};

Outcome Simulate(const World& world, CodecPolicy& policy, int epochs, uint64_t seed = 1) {
  Random random(seed);
  Outcome outcome;
  uint32_t in_a_row = 0;
  for (int i = 0; i < epochs; ++i) {
    const uint64_t pages =
        world.least_pages + random.Below(world.most_pages - world.least_pages + 1);
    const CodecLevel level = policy.Decide();
    const size_t at = static_cast<size_t>(level);
    const auto noise = [&] { return 1 - world.noise + 2 * world.noise * random.Unit(); };
    const double stall = random.Below(100) < world.stalls ? 4 : 1;
    in_a_row = level == CodecLevel::kOff ? 0 : in_a_row + 1;
    const bool filling = world.fills_baselines && in_a_row <= CodecPolicy::kWarmupEpochs;
    const double bytes = static_cast<double>(pages) * world.bytes[filling ? 0 : at];
    const double encode = static_cast<double>(pages) * world.encode_ns[at] * noise() * stall;
    const double decode = static_cast<double>(pages) * world.decode_ns[at];
    const double wire = (world.ns_per_epoch + bytes * world.ns_per_byte + decode) * noise();
    policy.Add({.level = level,
                .pages = pages,
                .wire_bytes = static_cast<uint64_t>(bytes),
                .encode_ns = static_cast<int64_t>(encode),
                .wire_ns = static_cast<int64_t>(wire)});
    outcome.total_ns += encode + wire;
    outcome.off_ns += world.Nanoseconds(CodecLevel::kOff, pages);
    outcome.others += level != CodecLevel::kOff ? 1 : 0;
    outcome.changes += i > 0 && policy.current() != outcome.last ? 1 : 0;
    outcome.last = policy.current();
  }
  return outcome;
}

TEST(CodecPolicy, StaysOutOfTheWayOnAFastWire) {
  CodecPolicy policy;
  const World world{.ns_per_byte = 0.04};  // 200 Gb/s: 4112 bytes take 164 ns, encoding 500.
  const Outcome outcome = Simulate(world, policy, 3000);
  EXPECT_EQ(outcome.last, CodecLevel::kOff);
  EXPECT_LT(outcome.total_ns, 1.05 * outcome.off_ns);
}

// Short epochs of nearly the same size, as a web server's over shared memory: what an epoch costs
// can hardly be told from what its bytes do, and the times vary by more than the levels differ.
World NoisyWorld() {
  return {.ns_per_byte = 0.15,
          .ns_per_epoch = 120000,
          .encode_ns = {1500, 2300, 3500, 6500},
          .bytes = {4150, 1600, 900, 600},
          .decode_ns = {0, 200, 800, 1800},
          .least_pages = 80,
          .most_pages = 96,
          .noise = 0.35,
          .stalls = 5};
}

TEST(CodecPolicy, NoiseDoesNotSwayIt) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CodecPolicy policy;
    const World world = NoisyWorld();
    const Outcome first = Simulate(world, policy, 400, seed);
    EXPECT_LT(first.others, 80) << "seed=" << seed;
    const Outcome later = Simulate(world, policy, 10000, seed + 100);
    EXPECT_LT(later.others, 300) << "seed=" << seed;
    EXPECT_EQ(later.last, CodecLevel::kOff) << "seed=" << seed;
  }
}

TEST(CodecPolicy, NoiseDoesNotHideAGain) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CodecPolicy policy;
    World world = NoisyWorld();
    world.ns_per_byte = 3;
    const Outcome outcome = Simulate(world, policy, 400, seed);
    EXPECT_NE(outcome.last, CodecLevel::kOff) << "seed=" << seed;
    EXPECT_LT(outcome.total_ns, 0.7 * outcome.off_ns) << "seed=" << seed;
  }
}

TEST(CodecPolicy, TakesTheLevelOfLeastLatency) {
  for (const auto& [ns_per_byte, best] :
       {std::pair{0.32, CodecLevel::kBlocks}, std::pair{8.0, CodecLevel::kLz4},
        std::pair{80.0, CodecLevel::kDense}}) {
    CodecPolicy policy;
    const Outcome outcome = Simulate({.ns_per_byte = ns_per_byte}, policy, 3000);
    EXPECT_EQ(outcome.last, best) << ns_per_byte;
    EXPECT_LT(outcome.total_ns, outcome.off_ns);
  }
}

TEST(CodecPolicy, FollowsTheWire) {
  CodecPolicy policy;
  EXPECT_EQ(Simulate({.ns_per_byte = 0.04}, policy, 1000).last, CodecLevel::kOff);
  EXPECT_NE(Simulate({.ns_per_byte = 80}, policy, 1000).last, CodecLevel::kOff);
  EXPECT_EQ(Simulate({.ns_per_byte = 0.04}, policy, 3000).last, CodecLevel::kOff);
}

// Epochs of nearly the same size, so that the wire's latency can not be told from its speed: what
// the slow wire made of the other levels' numbers is not believed for ever.
TEST(CodecPolicy, NoticesThatTheWireIsFastAgain) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CodecPolicy policy;
    World world{.ns_per_byte = 8,
                .bytes = {4109, 31, 20, 17},
                .decode_ns = {0, 300, 800, 1800},
                .least_pages = 80,
                .most_pages = 96};
    EXPECT_NE(Simulate(world, policy, 800, seed).last, CodecLevel::kOff) << "seed=" << seed;
    world.ns_per_byte = 0.04;
    EXPECT_EQ(Simulate(world, policy, 4000, seed).last, CodecLevel::kOff) << "seed=" << seed;
  }
}

CodecSample Sample(CodecLevel level, int64_t encode_ns) {
  return {.level = level,
          .pages = 1000,
          .wire_bytes = 1000000,
          .encode_ns = encode_ns,
          .wire_ns = 1000000};
}

TEST(CodecPolicy, WhatTheNextEpochMayTakeIsNoticedAtOnce) {
  CodecPolicy policy;
  policy.SetFixed(CodecLevel::kDense);
  for (int i = 0; i < 100; ++i) policy.Add(Sample(CodecLevel::kDense, 3000000));
  policy.Add(Sample(CodecLevel::kDense, 30000000));
  EXPECT_LT(policy.encode_ns_per_page(CodecLevel::kDense), 4000);
  EXPECT_GT(policy.latest_encode_ns_per_page(CodecLevel::kDense), 8000);
}

// Each epoch is too large for the level that was set by hand before.
TEST(CodecPolicy, ALevelThatIsNeverSentIsLeft) {
  CodecPolicy policy;
  policy.SetFixed(CodecLevel::kDense);
  policy.SetAutomatic();
  int tried = 0;
  for (int i = 0; i < 100; ++i) {
    tried += policy.Decide() == CodecLevel::kOff ? 1 : 0;
    policy.Add(Sample(std::min(policy.Decide(), CodecLevel::kBlocks), 1000000));
  }
  EXPECT_EQ(policy.current(), CodecLevel::kBlocks);
  EXPECT_GT(tried, 0);
}

TEST(CodecPolicy, SeparatesTheWiresLatencyFromItsSpeed) {
  CodecPolicy policy;
  const World world{.ns_per_byte = 1, .ns_per_epoch = 500000};
  Simulate(world, policy, 300);
  EXPECT_NEAR(policy.wire_ns_per_byte(), 1, 0.5);
  EXPECT_NEAR(policy.wire_ns_per_epoch(), 500000, 300000);
}

TEST(CodecPolicy, IncompressiblePagesAreLeftAlone) {
  CodecPolicy policy;
  const World world{.ns_per_byte = 0.32, .bytes = {4112, 4112, 4112, 4112}};
  const Outcome outcome = Simulate(world, policy, 3000);
  EXPECT_EQ(outcome.last, CodecLevel::kOff);
  EXPECT_LT(outcome.total_ns, 1.05 * outcome.off_ns);
}

// After each trial of `off` the level in use sends whole pages again for a while.
TEST(CodecPolicy, EpochsThatFillBaselinesAreNotHeldAgainstTheirLevel) {
  CodecPolicy policy;
  const World world{
      .ns_per_byte = 0.6, .bytes = {4112, 400, 380, 370}, .noise = 0, .fills_baselines = true};
  Simulate(world, policy, 200);
  ASSERT_EQ(policy.current(), CodecLevel::kBlocks);
  const Outcome outcome = Simulate(world, policy, 3000);
  EXPECT_EQ(outcome.changes, 0);
  EXPECT_NEAR(policy.bytes_per_page(CodecLevel::kBlocks), 400, 1);
}

// The baselines that one level's trial has filled are there for the next one's.
TEST(CodecPolicy, LevelsThatAreTriedInARowWarmUpOnce) {
  CodecPolicy policy;
  const World world{
      .ns_per_byte = 0.32, .encode_ns = {100, 200, 300, 400}, .bytes = {4112, 4112, 4112, 4112}};
  const int round = CodecPolicy::kWarmupEpochs + 3 * CodecPolicy::kTrialEpochs;
  EXPECT_EQ(Simulate(world, policy, CodecPolicy::kFirstTrialAfter + round + 8).others, round);
}

TEST(CodecPolicy, AHopelessTrialEndsAtOnce) {
  CodecPolicy policy;
  const World world{.ns_per_byte = 0.04, .encode_ns = {100, 1000, 1500, 3000}};
  const int round = CodecPolicy::kWarmupEpochs + 3;
  EXPECT_EQ(Simulate(world, policy, CodecPolicy::kFirstTrialAfter + round + 8).others, round);
}

TEST(CodecPolicy, ByHandWinsUntilAutomaticAgain) {
  CodecPolicy policy;
  policy.SetFixed(CodecLevel::kDense);
  EXPECT_FALSE(policy.automatic());
  Simulate({.ns_per_byte = 0.04}, policy, 100);
  EXPECT_EQ(policy.Decide(), CodecLevel::kDense);
  EXPECT_NEAR(policy.bytes_per_page(CodecLevel::kDense), 170, 1);
  policy.SetAutomatic();
  EXPECT_EQ(Simulate({.ns_per_byte = 0.04}, policy, 3000).last, CodecLevel::kOff);
}

TEST(CodecPolicy, EmptyEpochsSayNothing) {
  CodecPolicy policy;
  for (int i = 0; i < 100; ++i) policy.Add({.level = policy.Decide(), .wire_ns = 1000000});
  EXPECT_EQ(policy.wire_ns_per_byte(), 0);
  EXPECT_EQ(policy.Decide(), CodecLevel::kOff);
}

TEST(CodecPolicy, FailureRestartsATrial) {
  CodecPolicy policy;
  const World world{.ns_per_byte = 80};
  while (policy.Decide() == CodecLevel::kOff) Simulate(world, policy, 1);
  for (int i = 0; i < 100; ++i) {
    Simulate(world, policy, 1);
    policy.ForgetBaselines();
  }
  // Never got as far as an epoch that counts.
  EXPECT_EQ(policy.current(), CodecLevel::kOff);
  EXPECT_NE(Simulate(world, policy, 500).last, CodecLevel::kOff);
}

TEST(CodecPolicy, ATrialThatIsNotMadeIsPutOff) {
  CodecPolicy policy;
  int asked = 0;
  for (int i = 0; i < 2000; ++i) {
    asked += policy.Decide() != CodecLevel::kOff ? 1 : 0;
    policy.Add({.level = CodecLevel::kOff,
                .pages = 1000,
                .wire_bytes = 4112000,
                .encode_ns = 100000,
                .wire_ns = 10000000});
  }
  EXPECT_GT(asked, 3);
  EXPECT_LT(asked, 40);
}

TEST(CodecPolicy, LevelsHaveNames) {
  EXPECT_STREQ(CodecLevelName(CodecLevel::kOff), "off");
  EXPECT_STREQ(CodecLevelName(CodecLevel::kDense), "dense");
}

}  // namespace
}  // namespace haven
