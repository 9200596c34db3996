// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/sharing_gate.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint64_t kMany = SharingGate::kEnoughBlocks;

// Begins an epoch and, if it looks, finds one of so many blocks; 0: none. Whether it looked.
bool Epoch(SharingGate& gate, uint64_t blocks, uint64_t one_of) {
  const bool looks = gate.BeginEpoch();
  if (looks) gate.Note(blocks, one_of == 0 ? 0 : blocks / one_of);
  return looks;
}

// Epochs without a look until there is one again.
uint32_t RestOf(SharingGate& gate) {
  uint32_t epochs = 0;
  while (!Epoch(gate, kMany, 0)) ++epochs;
  return epochs;
}

TEST(SharingGate, GoesOnWhileEnoughIsFound) {
  SharingGate gate;
  for (int epoch = 0; epoch < 100; ++epoch) {
    EXPECT_TRUE(Epoch(gate, kMany, SharingGate::kWorth)) << epoch;
  }
}

TEST(SharingGate, RestsWhenTooLittleIsFound) {
  SharingGate gate;
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_TRUE(Epoch(gate, kMany, 2 * SharingGate::kWorth));
  EXPECT_FALSE(Epoch(gate, kMany, 0));
}

TEST(SharingGate, TheFirstEpochIsNotCounted) {
  SharingGate gate;
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  for (int epoch = 0; epoch < 10; ++epoch) EXPECT_TRUE(Epoch(gate, kMany, 2));
}

TEST(SharingGate, AFewBlocksSayNothing) {
  SharingGate gate;
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  for (int epoch = 0; epoch < 4; ++epoch) EXPECT_TRUE(Epoch(gate, kMany / 4, 0)) << epoch;
  EXPECT_FALSE(Epoch(gate, kMany, 0));
}

TEST(SharingGate, RestsTwiceAsLongAfterEachLookInVain) {
  SharingGate gate;
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  for (uint32_t rest = SharingGate::kFirstRest; rest <= 4 * SharingGate::kLongestRest; rest *= 2) {
    EXPECT_EQ(RestOf(gate), std::min(rest, SharingGate::kLongestRest));
    // The look has begun with the epoch that ended the rest.
    EXPECT_TRUE(Epoch(gate, kMany, 0));
  }
}

TEST(SharingGate, ALookThatFindsEnoughEndsTheRests) {
  SharingGate gate;
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_EQ(RestOf(gate), SharingGate::kFirstRest);
  EXPECT_TRUE(Epoch(gate, kMany, 1));
  for (int epoch = 0; epoch < 100; ++epoch) EXPECT_TRUE(Epoch(gate, kMany, 4));
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  // The next rest is a short one again.
  EXPECT_EQ(RestOf(gate), SharingGate::kFirstRest);
}

TEST(SharingGate, WhatIsNotKnownAnyMoreIsNoEvidence) {
  SharingGate gate;
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  gate.Forget();
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_TRUE(Epoch(gate, kMany, 0));
  EXPECT_FALSE(Epoch(gate, kMany, 0));
  // Nor is it a reason to look sooner; a new session is.
  gate.Forget();
  EXPECT_FALSE(Epoch(gate, kMany, 0));
  gate.Reset();
  EXPECT_TRUE(Epoch(gate, kMany, 0));
}

}  // namespace
}  // namespace haven
