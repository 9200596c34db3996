// SPDX-License-Identifier: Apache-2.0
#include "engine/control/heartbeat_pump.h"

#include <atomic>

#include "engine/control/control_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

struct LaneLog {
  std::atomic<uint64_t> beats{0};
  std::atomic<uint32_t> state{0};
  std::atomic<bool> gone{false};
};

class TestLane final : public BeatLane {
 public:
  TestLane(LaneLog& log, SessionId session, uint64_t counter)
      : log_(log), session_(session), counter_(counter) {}
  ~TestLane() override { log_.gone = true; }

  void Beat(uint32_t state) override {
    ++counter_;
    log_.state = state;
    ++log_.beats;
  }
  uint64_t counter() const override { return counter_; }
  SessionId session() const override { return session_; }

 private:
  LaneLog& log_;
  const SessionId session_;
  uint64_t counter_;
};

int64_t FarAhead() { return SystemClock::Get().NowNs() + 1000 * kNsPerSecond; }

TEST(HeartbeatPumpTest, IntervalIsATenthOfTheDetectionTime) {
  EXPECT_EQ(HeartbeatPump::IntervalFor(100 * kNsPerMs, 0), 10 * kNsPerMs);
  EXPECT_EQ(HeartbeatPump::IntervalFor(2 * kNsPerMs, 0), 1 * kNsPerMs);
}

TEST(HeartbeatPumpTest, AnIntervalThatIsAskedForFitsIntoTheDetectionTimeThrice) {
  EXPECT_EQ(HeartbeatPump::IntervalFor(100 * kNsPerMs, 25 * kNsPerMs), 25 * kNsPerMs);
  EXPECT_EQ(HeartbeatPump::IntervalFor(90 * kNsPerMs, 80 * kNsPerMs), 30 * kNsPerMs);
  EXPECT_EQ(HeartbeatPump::IntervalFor(2 * kNsPerMs, 10), 1 * kNsPerMs);
}

TEST(HeartbeatPumpTest, TheChannelHasFewerButTwoWithinTheDetectionTimeAndFourASecond) {
  EXPECT_EQ(HeartbeatPump::ChannelIntervalFor(100 * kNsPerMs, 10 * kNsPerMs), 40 * kNsPerMs);
  EXPECT_EQ(HeartbeatPump::ChannelIntervalFor(100 * kNsPerMs, 33 * kNsPerMs), 40 * kNsPerMs);
  EXPECT_EQ(HeartbeatPump::ChannelIntervalFor(10 * kNsPerSecond, 1 * kNsPerSecond), 250 * kNsPerMs);
  EXPECT_EQ(HeartbeatPump::ChannelIntervalFor(2 * kNsPerMs, 1 * kNsPerMs), 1 * kNsPerMs);
}

TEST(HeartbeatPumpTest, BeatsWhileItsOwnerVouches) {
  LaneLog log;
  const std::unique_ptr<HeartbeatPump> pump = *HeartbeatPump::Start(1 * kNsPerMs);
  pump->Vouch(FarAhead(), 3);
  pump->SetLane(std::make_unique<TestLane>(log, 7, 0));
  ASSERT_TRUE(WaitFor([&] { return log.beats >= 5; }));
  EXPECT_EQ(log.state, 3u);
  pump->Vouch(FarAhead(), 4);
  EXPECT_TRUE(WaitFor([&] { return log.state == 4u; }));
}

TEST(HeartbeatPumpTest, AStuckOwnerFallsSilent) {
  LaneLog log;
  const std::unique_ptr<HeartbeatPump> pump = *HeartbeatPump::Start(1 * kNsPerMs);
  pump->Vouch(SystemClock::Get().NowNs() + 20 * kNsPerMs, 3);
  pump->SetLane(std::make_unique<TestLane>(log, 7, 0));
  const int64_t end_ns = SystemClock::Get().NowNs() + 60 * kNsPerMs;
  ASSERT_TRUE(WaitFor([&] { return SystemClock::Get().NowNs() > end_ns; }));
  const uint64_t beats = log.beats;
  ASSERT_TRUE(WaitFor([&] { return SystemClock::Get().NowNs() > end_ns + 30 * kNsPerMs; }));
  EXPECT_EQ(log.beats, beats);
  pump->Vouch(FarAhead(), 3);
  EXPECT_TRUE(WaitFor([&] { return log.beats > beats; }));
}

TEST(HeartbeatPumpTest, NobodyUsesALaneThatWasCleared) {
  LaneLog log;
  const std::unique_ptr<HeartbeatPump> pump = *HeartbeatPump::Start(1 * kNsPerMs);
  pump->Vouch(FarAhead(), 1);
  pump->ClearLane();
  pump->SetLane(std::make_unique<TestLane>(log, 7, 0));
  ASSERT_TRUE(WaitFor([&] { return log.beats >= 1; }));
  pump->ClearLane();
  EXPECT_TRUE(log.gone);
}

TEST(HeartbeatPumpTest, TheCounterOfASessionOutlivesItsLanes) {
  LaneLog log;
  const std::unique_ptr<HeartbeatPump> pump = *HeartbeatPump::Start(1 * kNsPerMs);
  EXPECT_EQ(pump->last_counter(7), 0u);
  pump->Vouch(FarAhead(), 1);
  pump->SetLane(std::make_unique<TestLane>(log, 7, 40));
  ASSERT_TRUE(WaitFor([&] { return log.beats >= 2; }));
  EXPECT_GE(pump->last_counter(7), 42u);
  pump->ClearLane();
  const uint64_t counter = pump->last_counter(7);
  EXPECT_EQ(counter, 40 + log.beats);
  EXPECT_EQ(pump->last_counter(8), 0u);
  LaneLog other;
  pump->SetLane(std::make_unique<TestLane>(other, 8, 0));
  EXPECT_EQ(pump->last_counter(7), counter);
  pump->SetLane(std::make_unique<TestLane>(other, 9, 0));
  EXPECT_EQ(pump->last_counter(7), 0u);
}

}  // namespace
}  // namespace haven
