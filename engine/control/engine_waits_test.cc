// SPDX-License-Identifier: Apache-2.0
//
// How an engine waits for guests that take their time.
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/control/shm_pair_testing.h"
#include "engine/primary/domain.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// Stops a guest so long after it was asked, and says so.
constexpr int64_t kStopNs = 400 * kNsPerMs;

class SlowSuspend final : public SuspendMethod {
 public:
  // With `says`: by its descriptor. Else it has none.
  SlowSuspend(TestGuest& guest, bool says)
      : guest_(guest), says_(says), timer_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) {}

  absl::Status Request() override {
    Arm(kStopNs);
    return absl::OkStatus();
  }
  State Poll() override {
    uint64_t expired = 0;
    if (read(timer_.get(), &expired, sizeof(expired)) == sizeof(expired)) {
      ++stops_;
      return guest_.Request().ok() ? State::kSuspended : State::kGone;
    }
    ++looks_;
    return guest_.Poll();
  }
  absl::Status Resume() override {
    Arm(0);
    return guest_.Resume();
  }
  int event_fd() const override { return says_ ? timer_.get() : -1; }

  // Any thread.
  uint64_t looks() const { return looks_; }
  uint64_t stops() const { return stops_; }

 private:
  void Arm(int64_t ns) {
    const itimerspec when = {.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = ns}};
    HAVEN_CHECK_EQ(timerfd_settime(timer_.get(), 0, &when, nullptr), 0);
  }

  TestGuest& guest_;
  const bool says_;
  const UniqueFd timer_;
  std::atomic<uint64_t> looks_{0};
  std::atomic<uint64_t> stops_{0};
};

class EngineWaitsTest : public ShmPair, public testing::Test {
 protected:
  // Looks at a guest that runs, for each time that it stops.
  uint64_t LooksPerStop(bool says) {
    constexpr uint64_t kStops = 3;
    SlowSuspend slow(guest_, says);
    engine_options_.spin_ns = 0;
    engine_options_.driver.protocol.suspend_deadline_ns = 20 * kNsPerSecond;
    StartBackup();
    EngineSeams seams = Seams();
    seams.guests = {{&guest_, &slow}};
    engine_.emplace(engine_options_, seams);
    EXPECT_TRUE(engine_->Reaches("protected"));
    const uint64_t looks = slow.looks();
    const uint64_t stops = slow.stops();
    EXPECT_TRUE(WaitFor([&] { return slow.stops() >= stops + kStops; }));
    const uint64_t result = (slow.looks() - looks) / kStops;
    EXPECT_TRUE(ReleasesMore(1));
    engine_->Destroy();
    return result;
  }
};

TEST_F(EngineWaitsTest, AGuestThatSaysWhenItHasStoppedIsLeftInPeaceUntilThen) {
  EXPECT_LT(LooksPerStop(/*says=*/true), 40u);
}

TEST_F(EngineWaitsTest, AnyOtherGuestIsLookedAtAgainAndAgain) {
  EXPECT_GT(LooksPerStop(/*says=*/false), 40u);
}

}  // namespace
}  // namespace haven
