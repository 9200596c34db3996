// SPDX-License-Identifier: Apache-2.0
#include "engine/control/poll_set.h"

#include <limits>
#include <thread>

#include "engine/base/clock.h"
#include "engine/control/cancel.h"
#include "engine/control/wake_fd.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr int64_t kForEver = std::numeric_limits<int64_t>::max();

int64_t Now() { return SystemClock::Get().NowNs(); }

class PollSetTest : public testing::Test {
 protected:
  PollSet set_ = *PollSet::Create();
  WakeFd wake_ = *WakeFd::Create();
};

TEST_F(PollSetTest, WakesAtItsTimeAndNotBefore) {
  for (int i = 0; i < 5; ++i) {
    const int64_t until_ns = Now() + 3 * kNsPerMs;
    EXPECT_FALSE(set_.WaitUntil(until_ns));
    EXPECT_GE(Now(), until_ns);
  }
}

TEST_F(PollSetTest, ATimeThatHasPassedIsNotWaitedFor) {
  EXPECT_FALSE(set_.WaitUntil(0));
  EXPECT_FALSE(set_.WaitUntil(Now() - 1));
  ASSERT_TRUE(set_.Add(wake_.fd()).ok());
  wake_.Signal();
  EXPECT_TRUE(set_.WaitUntil(0));
}

TEST_F(PollSetTest, WakesForADescriptorUntilItIsRemoved) {
  ASSERT_TRUE(set_.Add(wake_.fd()).ok());
  std::thread other([this] { wake_.Signal(); });
  EXPECT_TRUE(set_.WaitUntil(kForEver));
  other.join();
  EXPECT_TRUE(set_.WaitUntil(kForEver)) << "it was not cleared";
  wake_.Clear();
  EXPECT_FALSE(set_.WaitUntil(Now() + 1));
  wake_.Signal();
  set_.Remove(wake_.fd());
  set_.Remove(wake_.fd());
  EXPECT_FALSE(set_.WaitUntil(Now() + 1));
}

TEST_F(PollSetTest, SaysWhichWereReadable) {
  const WakeFd other = *WakeFd::Create();
  ASSERT_TRUE(set_.Add(wake_.fd()).ok());
  ASSERT_TRUE(set_.Add(other.fd()).ok());
  EXPECT_FALSE(set_.WasReady(wake_.fd()));
  other.Signal();
  EXPECT_TRUE(set_.WaitUntil(kForEver));
  EXPECT_TRUE(set_.WasReady(other.fd()));
  EXPECT_FALSE(set_.WasReady(wake_.fd()));
  other.Clear();
  EXPECT_FALSE(set_.WaitUntil(0));
  EXPECT_FALSE(set_.WasReady(other.fd()));
}

TEST_F(PollSetTest, AnEarlierTimeReplacesALaterOne) {
  ASSERT_TRUE(set_.Add(wake_.fd()).ok());
  wake_.Signal();
  EXPECT_TRUE(set_.WaitUntil(Now() + 3600 * kNsPerSecond));
  wake_.Clear();
  EXPECT_FALSE(set_.WaitUntil(Now() + 1 * kNsPerMs));
}

TEST_F(PollSetTest, ASetCanBePartOfAnother) {
  PollSet outer = *PollSet::Create();
  ASSERT_TRUE(set_.Add(wake_.fd()).ok());
  ASSERT_TRUE(outer.Add(set_.fd()).ok());
  EXPECT_FALSE(outer.WaitUntil(0));
  wake_.Signal();
  EXPECT_TRUE(outer.WaitUntil(kForEver));
  wake_.Clear();
  EXPECT_FALSE(outer.WaitUntil(0));
}

TEST_F(PollSetTest, WhatCanNotBeWatchedIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(set_.Add(-1)));
  ASSERT_TRUE(set_.Add(wake_.fd()).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(set_.Add(wake_.fd())));
}

TEST_F(PollSetTest, ACancelStaysSet) {
  const std::shared_ptr<Cancel> cancel = *Cancel::Create();
  ASSERT_TRUE(set_.Add(cancel->fd()).ok());
  EXPECT_FALSE(cancel->is_set());
  EXPECT_FALSE(set_.WaitUntil(0));
  cancel->Set();
  EXPECT_TRUE(cancel->is_set());
  EXPECT_TRUE(set_.WaitUntil(kForEver));
}

}  // namespace
}  // namespace haven
