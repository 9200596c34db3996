// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/copy_pool.h"

#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(CopyPoolTest, WithoutWorkersItemsRunInOrderInTheCaller) {
  CopyPool pool(0);
  std::vector<uint32_t> order;
  std::thread::id thread;
  pool.Run(5, [&](uint32_t item) {
    order.push_back(item);
    thread = std::this_thread::get_id();
  });
  EXPECT_EQ(order, (std::vector<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(thread, std::this_thread::get_id());
}

TEST(CopyPoolTest, NoItemsNoCalls) {
  for (const unsigned workers : {0u, 2u}) {
    CopyPool pool(workers);
    pool.Run(0, [](uint32_t) { ADD_FAILURE(); });
  }
}

TEST(CopyPoolTest, StopsWhileWorkersSpinOrSleep) {
  for (int i = 0; i < 20; ++i) CopyPool pool(3);
  CopyPool pool(3);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

// Many short jobs one after the other are what makes a late worker meet the next job. The items use
// plain memory, so that a thread sanitizer sees an order that is missing.
TEST(CopyPoolTest, EachItemOfEachJobRunsExactlyOnce) {
  for (const unsigned workers : {1u, 2u, 5u}) {
    CopyPool pool(workers);
    std::vector<uint32_t> runs;
    for (uint32_t job = 0; job < 3000; ++job) {
      const uint32_t items = job % 17;
      runs.assign(items, job);
      pool.Run(items, [&](uint32_t item) { runs[item] += 1; });
      for (uint32_t item = 0; item < items; ++item) ASSERT_EQ(runs[item], job + 1);
    }
  }
}

TEST(CopyPoolTest, WorkersTakePart) {
  CopyPool pool(1);
  // Each item waits for the other one, so a single thread could not finish them.
  std::atomic<uint32_t> inside{0};
  pool.Run(2, [&](uint32_t) {
    inside.fetch_add(1);
    while (inside.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(inside.load(), 2u);
}

TEST(CopyPoolTest, WorkersWakeAfterASleep) {
  CopyPool pool(1);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<uint32_t> inside{0};
    pool.Run(2, [&](uint32_t) {
      inside.fetch_add(1);
      while (inside.load() < 2) std::this_thread::yield();
    });
  }
}

// The caller has nothing left to claim and sleeps until the worker's item is done.
TEST(CopyPoolTest, CallerWaitsForASlowItem) {
  CopyPool pool(1);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> worker_began{false};
  bool slow_done = false;
  pool.Run(2, [&](uint32_t) {
    if (std::this_thread::get_id() == caller) {
      while (!worker_began.load()) std::this_thread::yield();
    } else {
      worker_began.store(true);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      slow_done = true;
    }
  });
  EXPECT_TRUE(slow_done);
}

// A sanitizer's memory map leaves no room for such a limit.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// GoogleTest runs suites of this name first, before there is the stack of an earlier thread to use.
TEST(CopyPoolDeathTest, WithoutRoomForThreadsTheCallerDoesTheWork) {
  const auto run = [] {
    const rlimit none = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &none);
    CopyPool pool(2);
    uint32_t done = 0;
    pool.Run(3, [&done](uint32_t) { ++done; });
    std::exit(pool.workers() == 0 && done == 3 ? 0 : 1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "threads fewer than 2");
}
#endif

}  // namespace
}  // namespace haven
