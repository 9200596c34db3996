// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/link_lane.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "engine/base/random.h"

namespace haven {
namespace {

using Sent = LaneSender::Result;
using Taken = LaneReceiver::Result;

class LinkLaneTest : public testing::Test {
 protected:
  uint32_t MustTake() {
    uint32_t immediate = 0;
    EXPECT_EQ(receiver_.Take(immediate), Taken::kTaken);
    return immediate;
  }
  Taken Take() {
    uint32_t immediate = 0;
    return receiver_.Take(immediate);
  }

  const std::unique_ptr<LinkLane> lane_ = std::make_unique<LinkLane>();
  LaneSender sender_{*lane_};
  LaneReceiver receiver_{*lane_};
};

TEST_F(LinkLaneTest, DeliversInOrderAcrossManyRounds) {
  uint32_t sent = 0;
  uint32_t taken = 0;
  Random random(1);
  while (taken < 10 * kMaxReceives) {
    const auto batch = static_cast<uint32_t>(1 + random.Below(kMaxReceives));
    ASSERT_TRUE(receiver_.PostReceives(batch));
    for (uint32_t i = 0; i < batch; ++i) ASSERT_EQ(sender_.Send(sent++), Sent::kSent);
    for (uint32_t i = 0; i < batch; ++i) ASSERT_EQ(MustTake(), taken++);
    ASSERT_EQ(Take(), Taken::kEmpty);
  }
}

TEST_F(LinkLaneTest, EveryImmediateNeedsAReceive) {
  EXPECT_EQ(sender_.Send(1), Sent::kNoReceive);
  ASSERT_TRUE(receiver_.PostReceives(2));
  EXPECT_EQ(sender_.Send(1), Sent::kSent);
  EXPECT_EQ(sender_.Send(2), Sent::kSent);
  EXPECT_EQ(sender_.Send(3), Sent::kNoReceive);
  EXPECT_EQ(MustTake(), 1u);
  // Taking one does not grant another by itself.
  EXPECT_EQ(sender_.Send(3), Sent::kNoReceive);
}

TEST_F(LinkLaneTest, ReceivesBeyondTheRingAreRefused) {
  EXPECT_FALSE(receiver_.PostReceives(kMaxReceives + 1));
  EXPECT_FALSE(receiver_.PostReceives(UINT32_MAX));
  EXPECT_TRUE(receiver_.PostReceives(kMaxReceives));
  EXPECT_FALSE(receiver_.PostReceives(1));
  EXPECT_TRUE(receiver_.PostReceives(0));
  ASSERT_EQ(sender_.Send(7), Sent::kSent);
  EXPECT_FALSE(receiver_.PostReceives(1));
  EXPECT_EQ(MustTake(), 7u);
  EXPECT_TRUE(receiver_.PostReceives(1));
}

TEST_F(LinkLaneTest, OnlyAnArmedReceiverIsWokenAndOnlyOnce) {
  ASSERT_TRUE(receiver_.PostReceives(4));
  EXPECT_EQ(sender_.Send(1), Sent::kSent);
  receiver_.Arm();
  EXPECT_EQ(sender_.Send(2), Sent::kSentWake);
  EXPECT_EQ(sender_.Send(3), Sent::kSent);
}

TEST_F(LinkLaneTest, ImpossiblePostedCountIsCorrupt) {
  ASSERT_TRUE(receiver_.PostReceives(2));
  ASSERT_EQ(sender_.Send(1), Sent::kSent);
  for (const uint64_t posted : {uint64_t{0}, uint64_t{kMaxReceives + 2}, UINT64_MAX}) {
    lane_->posted = posted;
    EXPECT_EQ(sender_.Send(2), Sent::kCorrupt) << posted;
  }
}

TEST_F(LinkLaneTest, ImpossibleSentCountIsCorrupt) {
  ASSERT_TRUE(receiver_.PostReceives(2));
  ASSERT_EQ(sender_.Send(1), Sent::kSent);
  EXPECT_EQ(MustTake(), 1u);
  for (const uint64_t sent : {uint64_t{0}, uint64_t{3}, UINT64_MAX, uint64_t{1} << 63}) {
    lane_->sent = sent;
    EXPECT_EQ(Take(), Taken::kCorrupt) << sent;
  }
}

TEST_F(LinkLaneTest, CloseIsSeenAfterWhatWasSent) {
  ASSERT_TRUE(receiver_.PostReceives(1));
  ASSERT_EQ(sender_.Send(5), Sent::kSent);
  EXPECT_FALSE(receiver_.SenderClosed());
  sender_.Close();
  EXPECT_TRUE(receiver_.SenderClosed());
  EXPECT_EQ(MustTake(), 5u);
}

// With --config=tsan this shows that the ring alone orders the plain data beside it, both ways.
TEST(LinkLaneThreads, DataIsVisibleBeforeItsImmediate) {
  constexpr uint32_t kRounds = 200'000;
  constexpr uint32_t kSlots = 64;  // Of plain memory, each handed over by one immediate.
  const auto there = std::make_unique<LinkLane>();
  const auto back = std::make_unique<LinkLane>();
  std::array<uint64_t, kSlots> data{};

  std::thread receiving([&] {
    LaneReceiver receiver(*there);
    LaneSender sender(*back);
    ASSERT_TRUE(receiver.PostReceives(kSlots));
    for (uint32_t i = 0; i < kRounds; ++i) {
      uint32_t immediate = 0;
      LaneReceiver::Result result;
      while ((result = receiver.Take(immediate)) == Taken::kEmpty) std::this_thread::yield();
      ASSERT_EQ(result, Taken::kTaken);
      ASSERT_EQ(immediate, i);
      ASSERT_EQ(data[i % kSlots], uint64_t{i} * 3);
      data[i % kSlots] = 0;
      ASSERT_TRUE(receiver.PostReceives(1));
      Sent sent;
      while ((sent = sender.Send(i)) == Sent::kNoReceive) std::this_thread::yield();
      ASSERT_EQ(sent, Sent::kSent);
    }
  });

  LaneSender sender(*there);
  LaneReceiver receiver(*back);
  ASSERT_TRUE(receiver.PostReceives(kMaxReceives));
  uint32_t answered = 0;
  for (uint32_t i = 0; i < kRounds || answered < kRounds;) {
    if (i < kRounds && i - answered < kSlots) {
      ASSERT_EQ(data[i % kSlots], 0u);
      data[i % kSlots] = uint64_t{i} * 3;
      Sent sent;
      while ((sent = sender.Send(i)) == Sent::kNoReceive) std::this_thread::yield();
      ASSERT_EQ(sent, Sent::kSent);
      ++i;
    }
    uint32_t immediate = 0;
    while (receiver.Take(immediate) == Taken::kTaken) {
      ASSERT_EQ(immediate, answered++);
      ASSERT_TRUE(receiver.PostReceives(1));
    }
    if (i - answered == kSlots) std::this_thread::yield();
  }
  receiving.join();
}

// A receiver that arms, looks once more and then sleeps is never left asleep: each immediate either
// is found by that look or asks for a wake-up.
TEST(LinkLaneThreads, NoWakeUpIsLost) {
  constexpr uint32_t kRounds = 50'000;
  const auto lane = std::make_unique<LinkLane>();
  LaneReceiver receiver(*lane);
  ASSERT_TRUE(receiver.PostReceives(kMaxReceives));
  std::atomic<uint32_t> wakes = 0;
  std::atomic<uint32_t> taken = 0;

  std::thread sending([&] {
    LaneSender sender(*lane);
    for (uint32_t i = 0; i < kRounds; ++i) {
      while (taken.load() != i) std::this_thread::yield();
      const Sent sent = sender.Send(i);
      if (sent == Sent::kSentWake) {
        ++wakes;
        wakes.notify_one();
      } else {
        ASSERT_EQ(sent, Sent::kSent);
      }
    }
  });

  for (uint32_t i = 0; i < kRounds; ++i) {
    uint32_t immediate = 0;
    for (;;) {
      const uint32_t wakes_before = wakes.load();
      receiver.Arm();
      if (receiver.Take(immediate) == Taken::kTaken) break;
      wakes.wait(wakes_before);
    }
    ASSERT_EQ(immediate, i);
    ASSERT_TRUE(receiver.PostReceives(1));
    ++taken;
  }
  sending.join();
}

}  // namespace
}  // namespace haven
