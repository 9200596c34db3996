// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/run_control.h"

#include <atomic>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/base/clock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// Collects completed stops; a test waits for the one it expects.
class Stops {
 public:
  void Add(uint64_t id) {
    const std::lock_guard lock(mutex_);
    last_ = id;
    ++count_;
    changed_.notify_all();
  }
  void Await(uint64_t id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return last_ == id; });
  }
  int count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t last_ = 0;
  int count_ = 0;
};

constexpr int64_t kNever = std::numeric_limits<int64_t>::max() / 2;

// vCPU threads that count in slices without end, or sleep.
class RunControlTest : public ::testing::Test {
 protected:
  void Start(uint32_t vcpus, bool running, int64_t sleep_ns) {
    run_ = std::make_unique<RunControl>(running, [this](uint64_t id) { stops_.Add(id); });
    for (uint32_t i = 0; i < vcpus; ++i) {
      threads_.emplace_back([this, sleep_ns] {
        RunControl::Turn turn;
        int64_t due_ns = 0;
        while (true) {
          const RunControl::Slice slice = run_->NextSlice(due_ns, turn);
          if (slice == RunControl::Slice::kExit) return;
          if (slice == RunControl::Slice::kRunAfterStop) ++after_stops_;
          ++slices_;
          slices_.notify_all();
          while (sleep_ns == 0 && !run_->stop_requested()) {
            ++unlocked_;
            std::this_thread::yield();
          }
          due_ns = sleep_ns;
        }
      });
    }
  }

  ~RunControlTest() override {
    run_->Exit();
    for (std::thread& thread : threads_) thread.join();
  }

  void AwaitSlices(uint64_t count) {
    for (uint64_t now = slices_; now < count; now = slices_) slices_.wait(now);
  }

  Stops stops_;
  std::unique_ptr<RunControl> run_;
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> slices_{0};
  std::atomic<uint64_t> after_stops_{0};
  std::atomic<uint64_t> unlocked_{0};
};

TEST_F(RunControlTest, AStopWaitsForAllWorkingVcpusAndNothingRunsAfterIt) {
  Start(4, true, 0);
  AwaitSlices(4);
  for (uint64_t id = 1; id <= 50; ++id) {
    run_->Stop(id);
    stops_.Await(id);
    EXPECT_TRUE(run_->stopped());
    const uint64_t slices = slices_;
    const uint64_t unlocked = unlocked_;
    std::this_thread::yield();
    EXPECT_EQ(slices_, slices);
    EXPECT_EQ(unlocked_, unlocked);
    run_->Resume();
    AwaitSlices(slices + 4);
  }
  EXPECT_EQ(after_stops_, 4u * 50);
}

TEST_F(RunControlTest, ASleepingVcpuIsAtASafePointAlready) {
  Start(2, true, kNever);
  AwaitSlices(2);
  run_->Stop(1);
  stops_.Await(1);
  EXPECT_TRUE(run_->stopped());
  run_->Resume();
  EXPECT_FALSE(run_->stopped());
}

TEST_F(RunControlTest, AWaitingGuestRunsOnlyAfterResume) {
  Start(2, false, 0);
  run_->Stop(9);
  stops_.Await(9);
  EXPECT_EQ(slices_, 0u);
  run_->Resume();
  AwaitSlices(2);
}

TEST_F(RunControlTest, ASecondStopOfAStoppedGuestIsCompleteAtOnce) {
  Start(2, true, 0);
  run_->Stop(1);
  stops_.Await(1);
  run_->Stop(2);
  EXPECT_EQ(stops_.count(), 2);
  stops_.Await(2);
  run_->Resume();
  EXPECT_EQ(stops_.count(), 2) << "a completed stop is announced once";
}

TEST_F(RunControlTest, AStopCanBeTakenBackAtAnyTime) {
  Start(2, true, 0);
  for (uint64_t id = 1; id < 200; id += 2) {
    const uint64_t slices = slices_;
    run_->Stop(id);
    run_->Resume();
    // Whoever noticed the request begins anew; who did not runs on. Neither may be stuck.
    run_->Stop(id + 1);
    stops_.Await(id + 1);
    run_->Resume();
    AwaitSlices(slices + 2);
  }
}

TEST_F(RunControlTest, ResumeWithoutAStopDoesNothing) {
  Start(1, true, 0);
  AwaitSlices(1);
  run_->Resume();
  run_->Stop(1);
  stops_.Await(1);
  run_->Resume();
  AwaitSlices(2);
  EXPECT_EQ(after_stops_, 1u);
}

TEST_F(RunControlTest, AStoppedGuestCanExit) {
  Start(3, true, 0);
  run_->Stop(1);
  stops_.Await(1);
}

}  // namespace
}  // namespace haven
