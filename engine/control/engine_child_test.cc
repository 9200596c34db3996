// SPDX-License-Identifier: Apache-2.0
#include "engine/control/engine_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/control_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// A shell in place of an engine; `extra` become its $1, $2 and so on.
std::vector<std::string> Shell(const std::string& script) {
  return {"/bin/sh", "-c", script, "engine"};
}

class EngineChildTest : public testing::Test {
 protected:
  std::unique_ptr<EngineChild> Start(const std::vector<std::string>& command,
                                     const std::vector<std::string>& extra = {}) {
    absl::StatusOr<std::unique_ptr<EngineChild>> child = EngineChild::Start(command, extra, *page_);
    HAVEN_CHECK_OK(child);
    return *std::move(child);
  }
  static bool IsDead(const EngineChild& child, int timeout_ms) {
    pollfd one = {child.fd(), POLLIN, 0};
    return poll(&one, 1, timeout_ms) > 0;
  }

  const ShortFolder folder_;
  const std::unique_ptr<AlivePage> page_ = *AlivePage::Create();
};

TEST_F(EngineChildTest, ExitCodesComeThrough) {
  for (const int code : {0, 1, 40, 41, 42, 43, 255}) {
    EXPECT_EQ(Start(Shell("exit $1"), {std::to_string(code)})->Wait(), code);
  }
}

TEST_F(EngineChildTest, ASignalIsNoExitCode) {
  EXPECT_EQ(Start(Shell("kill -SEGV $$"))->Wait(), -1);
  EXPECT_EQ(Start(Shell("kill -KILL $$"))->Wait(), -1);
}

TEST_F(EngineChildTest, AProgramThatDoesNotExistEndsAtOnce) {
  EXPECT_EQ(Start({folder_.File("engine")})->Wait(), 127);
}

TEST_F(EngineChildTest, ExtraArgumentsFollowTheCommandAsTheyAre) {
  const std::string out = folder_.File("out");
  const auto child = Start(Shell("out=$1; shift; printf '%s|' \"$@\" > \"$out\""),
                           {out, "a b", "", "c\nd", "$HOME"});
  EXPECT_EQ(child->Wait(), 0);
  EXPECT_EQ(*ReadBoundedFile(out, 100), "a b||c\nd|$HOME|");
}

TEST_F(EngineChildTest, TheDescriptorTellsOfTheEnd) {
  const std::string fifo = folder_.File("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  // Lives until somebody has opened the pipe and closed it.
  const auto child = Start(Shell("read x < \"$1\"; exit 7"), {fifo});
  EXPECT_FALSE(IsDead(*child, 0));
  UniqueFd(open(fifo.c_str(), O_WRONLY | O_CLOEXEC)).reset();
  EXPECT_TRUE(IsDead(*child, -1));
  EXPECT_EQ(child->Wait(), 7);
  child->Kill();  // Of no effect: the pid may be somebody else's.
}

TEST_F(EngineChildTest, KillEndsWhateverIgnoresSignals) {
  const std::string ready = folder_.File("ready");
  const auto child = Start(Shell("trap '' TERM INT; : > \"$1\"; exec sleep 1000"), {ready});
  ASSERT_TRUE(WaitFor([&] { return access(ready.c_str(), F_OK) == 0; }));
  child->Kill();
  child->Kill();
  EXPECT_EQ(child->Wait(), -1);
}

TEST_F(EngineChildTest, AnEngineEndsWithItsObject) {
  pid_t pid = 0;
  {
    const auto child = Start({"/bin/sleep", "1000"});
    pid = child->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(EngineChildTest, AnEngineEndsWithItsGuard) {
  // The guard's orphan comes to this process, which sees how it ends.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int pair[2];
  ASSERT_EQ(pipe2(pair, O_CLOEXEC), 0);
  const UniqueFd reads(pair[0]);
  UniqueFd writes(pair[1]);
  const pid_t guard = fork();
  ASSERT_GE(guard, 0);
  if (guard == 0) {
    const auto child = Start({"/bin/sleep", "1000"});
    const pid_t pid = child->pid();
    _exit(write(writes.get(), &pid, sizeof(pid)) == sizeof(pid) ? 0 : 1);
  }
  writes.reset();
  pid_t engine = 0;
  ASSERT_EQ(read(reads.get(), &engine, sizeof(engine)), static_cast<ssize_t>(sizeof(engine)));
  int status = 0;
  ASSERT_EQ(waitpid(guard, &status, 0), guard);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ASSERT_EQ(waitpid(engine, &status, 0), engine);
  // By its parent's death, or by itself if that was before it could ask for the signal.
  EXPECT_TRUE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
              (WIFEXITED(status) && WEXITSTATUS(status) == 127))
      << status;
  EXPECT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

TEST_F(EngineChildTest, AGuardsBlockedSignalsAreNotTheEngines) {
  sigset_t term;
  sigset_t before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ASSERT_EQ(sigprocmask(SIG_BLOCK, &term, &before), 0);
  const auto child = Start({"/bin/sleep", "1000"});
  ASSERT_EQ(sigprocmask(SIG_SETMASK, &before, nullptr), 0);
  // Before execve(2) it is blocked, and waits.
  ASSERT_EQ(kill(child->pid(), SIGTERM), 0);
  EXPECT_EQ(child->Wait(), -1);
}

TEST_F(EngineChildTest, TheAlivePageIsShared) {
  EXPECT_EQ(page_->until_ns(), 0) << "nobody has vouched yet";
  const auto child = Start(Shell("printf '\\001\\002' >&3"));
  EXPECT_EQ(child->Wait(), 0);
  EXPECT_EQ(page_->until_ns(), 0x0201);
  absl::StatusOr<std::unique_ptr<AlivePage>> adopted = AlivePage::Adopt(page_->fd());
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_NE((*adopted)->fd(), page_->fd()) << "one of its own";
  (*adopted)->SetUntilNs(-9);
  EXPECT_EQ(page_->until_ns(), -9);
}

TEST_F(EngineChildTest, AnEngineThatNobodyHandedAPageSaysSo) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd small(memfd_create("small", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(small.get(), 100), 0);
  for (const int fd : {-1, 1 << 20, null.get(), small.get()}) {
    const absl::Status status = AlivePage::Adopt(fd).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

}  // namespace
}  // namespace haven
