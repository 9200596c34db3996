// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/completion_queue.h"

#include <gtest/gtest.h>

namespace haven {
namespace {

TEST(CompletionQueue, KeepsOrderAroundTheRing) {
  CompletionQueue queue;
  uint64_t pushed = 0;
  uint64_t popped = 0;
  while (popped < 5 * CompletionQueue::kDepth) {
    for (int i = 0; i < 700; ++i) queue.Push({.id = pushed++});
    EXPECT_EQ(queue.room(), CompletionQueue::kDepth - 700);
    std::array<Completion, 300> out;
    for (size_t expected : {300u, 300u, 100u, 0u}) {
      ASSERT_EQ(queue.PopInto(out), expected);
      for (size_t i = 0; i < expected; ++i) ASSERT_EQ(out[i].id, popped++);
    }
    EXPECT_EQ(queue.room(), CompletionQueue::kDepth);
  }
}

TEST(CompletionQueueDeathTest, OverflowIsABrokenAssumption) {
  CompletionQueue queue;
  while (queue.room() > 0) queue.Push({});
  EXPECT_DEATH(queue.Push({}), "room");
}

}  // namespace
}  // namespace haven
