// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/send_queue.h"

#include <gtest/gtest.h>

#include "engine/base/random.h"

namespace haven {
namespace {

constexpr uint32_t kDepth = 64;

TEST(SendQueue, OneCompletionFreesAllBefore) {
  SendQueue queue(kDepth);
  for (uint64_t id = 1; id <= 10; ++id) queue.Push({.id = id}, id == 10, 1);
  EXPECT_EQ(queue.outstanding(), 10u);
  const std::optional<SendQueue::Request> done = queue.Finish(9);
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->id, 10u);
  EXPECT_EQ(queue.room(), kDepth);
}

TEST(SendQueue, ACompletionThatCanNotBeIsRefused) {
  SendQueue queue(kDepth);
  queue.Push({.id = 1}, true, 1);
  EXPECT_FALSE(queue.Finish(1).has_value()) << "not posted yet";
  EXPECT_TRUE(queue.Finish(0).has_value());
  EXPECT_FALSE(queue.Finish(0).has_value()) << "twice";
  EXPECT_FALSE(queue.Finish(UINT64_MAX).has_value());
}

TEST(SendQueue, WhatMustBeSignalled) {
  SendQueue queue(kDepth);
  EXPECT_FALSE(queue.MustSignal(false, false, 4096));
  EXPECT_TRUE(queue.MustSignal(true, false, 4096));
  EXPECT_TRUE(queue.MustSignal(false, true, 4096));
  EXPECT_TRUE(queue.MustSignal(false, false, SendQueue::kSignalBytes));
}

TEST(SendQueue, NeverMoreSilentRequestsThanStated) {
  SendQueue queue(kDepth);
  uint32_t silent = 0;
  for (int i = 0; i < 1000; ++i) {
    const bool signaled = queue.MustSignal(false, false, 64);
    const uint64_t sequence = queue.Push({.id = 1}, signaled, 64);
    silent = signaled ? 0 : silent + 1;
    ASSERT_LT(silent, SendQueue::kSignalEvery);
    if (signaled) queue.Finish(sequence);
  }
}

TEST(SendQueue, WhatTheDeviceDidNotTakeIsTakenBack) {
  SendQueue queue(kDepth);
  queue.Push({.id = 1}, true, 1);
  const uint64_t second = queue.Push({.id = 2}, true, 1);
  queue.Push({.id = 3}, true, 1);
  queue.Unpush(second);
  EXPECT_EQ(queue.outstanding(), 1u);
  EXPECT_EQ(queue.TakeOldest()->id, 1u);
  EXPECT_FALSE(queue.TakeOldest().has_value());
}

TEST(SendQueue, KeepsItsPromisesOverManyTurns) {
  SendQueue queue(kDepth);
  Random random(7);
  uint64_t pushed = 0;
  uint64_t finished = 0;
  for (int i = 0; i < 10'000; ++i) {
    if (queue.room() > 0 && random.Below(2) == 0) {
      ASSERT_EQ(queue.Push({.id = pushed + 1}, true, 1), pushed);
      ++pushed;
    } else if (queue.outstanding() > 0) {
      const uint64_t target = finished + random.Below(queue.outstanding());
      ASSERT_EQ(queue.Finish(target)->id, target + 1);
      finished = target + 1;
    }
    ASSERT_EQ(queue.outstanding(), pushed - finished);
  }
}

TEST(SendQueueDeathTest, APushWithoutRoomIsABug) {
  SendQueue queue(kDepth);
  for (uint32_t i = 0; i < kDepth; ++i) queue.Push({}, true, 1);
  EXPECT_DEATH(queue.Push({}, true, 1), "room");
}

}  // namespace
}  // namespace haven
