// SPDX-License-Identifier: Apache-2.0
#include "engine/base/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(ThreadTest, HasItsNameAndNoSignals) {
  std::string name;
  bool blocked = false;
  absl::StatusOr<Thread> thread = Thread::Start("haven-test", [&] {
    std::array<char, 16> buffer{};
    pthread_getname_np(pthread_self(), buffer.data(), buffer.size());
    name = buffer.data();
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    blocked = sigismember(&mask, SIGTERM) == 1;
  });
  ASSERT_TRUE(thread.ok()) << thread.status();
  thread->Join();
  thread->Join();
  EXPECT_EQ(name, "haven-test");
  EXPECT_TRUE(blocked);
  sigset_t own;
  pthread_sigmask(SIG_SETMASK, nullptr, &own);
  EXPECT_EQ(sigismember(&own, SIGTERM), 0) << "the caller's are as they were";
}

TEST(ThreadTest, MayEndBeforeItsStartIsOver) {
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(Thread::Start("haven-test", [] {}).ok());
}

TEST(ThreadTest, IsJoinedByWhoeverHoldsIt) {
  int done = 0;
  {
    Thread first;
    absl::StatusOr<Thread> started = Thread::Start("haven-test", [&done] { ++done; });
    ASSERT_TRUE(started.ok());
    first = *std::move(started);
    const Thread second = std::move(first);
  }
  EXPECT_EQ(done, 1);
}

TEST(ThreadTest, IsNotWaitedForOnceDetached) {
  const auto go = std::make_shared<std::promise<void>>();
  const auto done = std::make_shared<std::promise<void>>();
  {
    absl::StatusOr<Thread> thread = Thread::Start("haven-test", [go, done] {
      go->get_future().wait();
      done->set_value();
    });
    ASSERT_TRUE(thread.ok());
    thread->Detach();
  }
  go->set_value();
  done->get_future().wait();
}

// A sanitizer's memory map leaves no room for such a limit.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// GoogleTest runs suites of this name first, before there is the stack of an earlier thread to use.
TEST(ThreadDeathTest, WithoutRoomForItThereIsAStatus) {
  const auto start = [] {
    const rlimit none = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &none);
    std::exit(absl::IsResourceExhausted(Thread::Start("haven-test", [] {}).status()) ? 0 : 1);
  };
  EXPECT_EXIT(start(), testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace haven
