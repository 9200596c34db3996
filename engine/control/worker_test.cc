// SPDX-License-Identifier: Apache-2.0
#include "engine/control/worker.h"

#include <poll.h>

#include <atomic>
#include <vector>

#include "engine/control/control_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

bool IsReadable(int fd) {
  pollfd watched = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&watched, 1, 0) == 1;
}

TEST(WorkerTest, RunsJobsInOrderAndTheirFinishInTheOwnersThread) {
  const std::unique_ptr<Worker> worker = *Worker::Start("test");
  const pthread_t owner = pthread_self();
  std::vector<int> finished;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(worker->Submit([&, i]() -> Worker::Finish {
      EXPECT_FALSE(pthread_equal(owner, pthread_self()));
      return [&, i] {
        EXPECT_TRUE(pthread_equal(owner, pthread_self()));
        finished.push_back(i);
      };
    }));
  }
  worker->WaitIdle();
  EXPECT_TRUE(finished.empty());
  EXPECT_TRUE(IsReadable(worker->fd()));
  EXPECT_TRUE(worker->RunFinished());
  EXPECT_EQ(finished, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_FALSE(IsReadable(worker->fd()));
  EXPECT_FALSE(worker->RunFinished());
}

TEST(WorkerTest, RefusesMoreThanItsLimit) {
  const std::unique_ptr<Worker> worker = *Worker::Start("test");
  std::atomic<bool> go{false};
  std::atomic<int> done{0};
  for (size_t i = 0; i < Worker::kMaxJobs; ++i) {
    ASSERT_TRUE(worker->Submit([&]() -> Worker::Finish {
      WaitFor([&] { return go.load(); });
      return [&] { ++done; };
    }));
  }
  EXPECT_FALSE(worker->Submit([]() -> Worker::Finish { return [] {}; }));
  go = true;
  worker->WaitIdle();
  EXPECT_FALSE(worker->Submit([]() -> Worker::Finish { return [] {}; })) << "results wait";
  EXPECT_TRUE(worker->RunFinished());
  EXPECT_EQ(done, Worker::kMaxJobs);
  EXPECT_TRUE(worker->Submit([]() -> Worker::Finish { return [] {}; }));
}

TEST(WorkerTest, EndsWithWhatRunsAndDropsTheRest) {
  std::atomic<bool> begun{false};
  std::atomic<bool> ended{false};
  std::atomic<int> finished{0};
  {
    const std::unique_ptr<Worker> worker = *Worker::Start("test");
    ASSERT_TRUE(worker->Submit([&]() -> Worker::Finish {
      begun = true;
      ended = true;
      return [&] { ++finished; };
    }));
    ASSERT_TRUE(WaitFor([&] { return begun.load(); }));
  }
  EXPECT_TRUE(ended);
  EXPECT_EQ(finished, 0);
}

}  // namespace
}  // namespace haven
