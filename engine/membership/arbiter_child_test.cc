// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/fd.h"
#include "engine/membership/arbiter_deadline.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

class ArbiterChildTest : public testing::Test {
 protected:
  absl::StatusOr<ChildResult> Shell(const std::string& script, const std::string& input = "",
                                    absl::Duration timeout = absl::Seconds(30)) {
    return runner_.Run({"/bin/sh", "-c", script}, input, Deadline(timeout));
  }

  // True once the process is gone; its group was killed, so that can not take long.
  static bool Vanishes(pid_t pid) {
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!process) return errno == ESRCH;
    pollfd ended = {process.get(), POLLIN, 0};
    return poll(&ended, 1, 30'000) == 1;
  }

  ChildRunner runner_;
};

TEST_F(ArbiterChildTest, PassesArgumentsAndInputAndTakesOutput) {
  const absl::StatusOr<ChildResult> result =
      runner_.Run({"/bin/sh", "-c", "printf '%s|' \"$@\"; cat; echo careful >&2; exit 7", "sh",
                   "a b", "", "$HOME;`id`"},
                  "line 1\nline 2", Deadline(absl::Seconds(30)));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->end, ChildResult::End::kExited);
  EXPECT_EQ(result->code, 7);
  EXPECT_EQ(result->output, "a b||$HOME;`id`|line 1\nline 2");
  EXPECT_EQ(result->diagnostics, "careful\n");
}

TEST_F(ArbiterChildTest, NoInputIsEndOfFile) { EXPECT_EQ(Shell("wc -c")->output, "0\n"); }

TEST_F(ArbiterChildTest, AProgramNeedNotReadItsInput) {
  const std::string input(ChildRunner::kInputBytes, 'x');
  EXPECT_EQ(Shell("exec <&-; exit 3", input)->code, 3);
  EXPECT_EQ(Shell("cat", input)->output, input);
  EXPECT_TRUE(absl::IsInvalidArgument(Shell("cat", input + "x").status()));
}

TEST_F(ArbiterChildTest, TellsASignalFromAnExit) {
  const absl::StatusOr<ChildResult> result = Shell("kill -TERM $$");
  EXPECT_EQ(result->end, ChildResult::End::kSignaled);
  EXPECT_EQ(result->code, SIGTERM);
}

TEST_F(ArbiterChildTest, StartsWithDefaultSignalsWhateverTheCallerBlocks) {
  sigset_t term;
  sigset_t before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &term, &before), 0);
  const absl::StatusOr<ChildResult> result = Shell("kill -TERM $$; exit 0");
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  EXPECT_EQ(result->end, ChildResult::End::kSignaled);
}

TEST_F(ArbiterChildTest, InheritsNoOtherDescriptor) {
  const int inheritable = fcntl(STDERR_FILENO, F_DUPFD, 100);
  ASSERT_GE(inheritable, 100);
  const absl::StatusOr<ChildResult> result = Shell("ls /proc/$$/fd");
  close(inheritable);
  EXPECT_THAT(result->output, HasSubstr("2\n"));
  EXPECT_THAT(result->output, testing::Not(HasSubstr(absl::StrCat(inheritable))));
}

TEST_F(ArbiterChildTest, WorksInAProcessWithoutStandardDescriptors) {
  const int saved[] = {dup(0), dup(1), dup(2)};
  for (int fd = 0; fd < 3; ++fd) close(fd);
  const absl::StatusOr<ChildResult> result = Shell("cat; echo e >&2", "in");
  for (int fd = 0; fd < 3; ++fd) {
    dup2(saved[fd], fd);
    close(saved[fd]);
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->output, "in");
  EXPECT_EQ(result->diagnostics, "e\n");
}

TEST_F(ArbiterChildTest, KillsTheWholeGroupAtTheDeadline) {
  const absl::Time start = absl::Now();
  const absl::StatusOr<ChildResult> result =
      Shell("sleep 1000 & echo $!; wait", "", absl::Milliseconds(300));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->end, ChildResult::End::kTimedOut);
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  pid_t sleeper = 0;
  ASSERT_TRUE(absl::SimpleAtoi(result->output, &sleeper)) << result->output;
  EXPECT_TRUE(Vanishes(sleeper));
}

TEST_F(ArbiterChildTest, AProgramThatIgnoresSignalsIsKilledToo) {
  const absl::StatusOr<ChildResult> result =
      Shell("trap '' TERM INT HUP; while :; do sleep 1; done", "", absl::Milliseconds(200));
  EXPECT_EQ(result->end, ChildResult::End::kTimedOut);
}

TEST_F(ArbiterChildTest, ABackgroundProcessThatHoldsThePipesIsNotWaitedFor) {
  const absl::Time start = absl::Now();
  const absl::StatusOr<ChildResult> result = Shell("sleep 1000 & echo $!");
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_EQ(result->end, ChildResult::End::kExited);
  pid_t sleeper = 0;
  ASSERT_TRUE(absl::SimpleAtoi(result->output, &sleeper)) << result->output;
  EXPECT_TRUE(Vanishes(sleeper));
}

TEST_F(ArbiterChildTest, EndlessOutputIsCutAndItsWriterKilled) {
  const absl::StatusOr<ChildResult> result = Shell("while :; do echo yes; done");
  EXPECT_EQ(result->end, ChildResult::End::kTooMuchOutput);
  EXPECT_EQ(result->output.size(), ChildRunner::kOutputBytes);
}

TEST_F(ArbiterChildTest, EndlessDiagnosticsAreCutButNotHeldAgainstIt) {
  const absl::StatusOr<ChildResult> result =
      Shell("i=0; while [ $i -lt 20000 ]; do echo 123456789 >&2; i=$((i+1)); done; echo done");
  EXPECT_EQ(result->end, ChildResult::End::kExited);
  EXPECT_EQ(result->output, "done\n");
  EXPECT_EQ(result->diagnostics.size(), ChildRunner::kDiagnosticsBytes);
}

TEST_F(ArbiterChildTest, WhatCanNotBeStartedIsAnError) {
  const Deadline deadline(absl::Seconds(30));
  const absl::Status missing = runner_.Run({"/no/such/program"}, "", deadline).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("start /no/such/program"));
  EXPECT_TRUE(absl::IsPermissionDenied(runner_.Run({"/etc/passwd"}, "", deadline).status()));
}

TEST_F(ArbiterChildTest, ALostExitStatusIsAnErrorNotSuccess) {
  // The kernel reaps the children of a process that ignores SIGCHLD by itself.
  const auto before = signal(SIGCHLD, SIG_IGN);
  const absl::Status status = Shell("exit 0").status();
  signal(SIGCHLD, before);
  EXPECT_THAT(std::string(status.message()), HasSubstr("exit status"));
}

}  // namespace
}  // namespace haven
