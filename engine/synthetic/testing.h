// SPDX-License-Identifier: Apache-2.0
//
// For tests that start synthetic guests; they link :test_main.
#ifndef HAVEN_ENGINE_SYNTHETIC_TESTING_H_
#define HAVEN_ENGINE_SYNTHETIC_TESTING_H_

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/short_folder_testing.h"
#include "engine/primary/domain.h"
#include "engine/synthetic/launcher.h"
#include "gtest/gtest.h"

namespace haven {

// What tells the test's program to be a guest.
inline constexpr char kTestGuestWord[] = "synthetic-guest";

inline constexpr int64_t kTestTimeoutNs = 60 * kNsPerSecond;

// Waits for something that has no event of its own.
inline bool Eventually(const std::function<bool()>& condition) {
  const int64_t deadline_ns = SystemClock::Get().NowNs() + kTestTimeoutNs;
  while (!condition()) {
    if (SystemClock::Get().NowNs() > deadline_ns) return false;
    usleep(1000);
  }
  return true;
}

// Waits until a suspend method says `state`, by its event descriptor.
inline bool AwaitState(SuspendMethod& suspend, SuspendMethod::State state) {
  const int64_t deadline_ns = SystemClock::Get().NowNs() + kTestTimeoutNs;
  while (suspend.Poll() != state) {
    const int64_t left_ns = deadline_ns - SystemClock::Get().NowNs();
    if (left_ns <= 0) return false;
    pollfd entry{suspend.event_fd(), POLLIN, 0};
    poll(&entry, 1, static_cast<int>(left_ns / kNsPerMs) + 1);
  }
  return true;
}

// A directory for guests. Guests that outlive their starter become children of the test, and when
// the test ends there must be none.
class GuestTest : public ::testing::Test {
 protected:
  GuestTest() { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

  ~GuestTest() override { EXPECT_TRUE(NoProcessLeft()) << "a guest was left behind in " << dir_; }

  SyntheticLaunch Launch() const {
    SyntheticLaunch launch;
    launch.command = {"/proc/self/exe", kTestGuestWord};
    launch.runtime_dir = dir_;
    return launch;
  }

  std::string PathOf(const std::string& name) const { return dir_ + "/" + name; }

  // Every child has ended, within the time limit.
  static bool NoProcessLeft() {
    return Eventually([] {
      pid_t pid;
      while ((pid = waitpid(-1, nullptr, WNOHANG)) > 0) {
      }
      return pid < 0 && errno == ECHILD;
    });
  }

  const ShortFolder folder_;
  const std::string dir_ = folder_.path();
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_TESTING_H_
