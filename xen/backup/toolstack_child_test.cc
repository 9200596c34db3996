// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/toolstack_child.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "engine/base/short_folder_testing.h"

namespace haven {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

const absl::Duration kLong = absl::Seconds(20);
const absl::Duration kShort = absl::Milliseconds(50);

class ToolstackChildTest : public ::testing::Test {
 protected:
  void SetUp() override { signal(SIGPIPE, SIG_IGN); }

  static std::unique_ptr<ToolstackChild> Shell(const std::string& script) {
    absl::StatusOr<std::unique_ptr<ToolstackChild>> child =
        ToolstackChild::Start({"/bin/sh", "-c", script});
    EXPECT_TRUE(child.ok()) << child.status();
    return *std::move(child);
  }

  static std::span<const std::byte> Bytes(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
  }
};

TEST_F(ToolstackChildTest, TalksThroughBothPipesAndTellsTheExitCode) {
  const auto child = Shell("printf hello; read word; printf \"$word\\0\"; exit 7");
  EXPECT_TRUE(child->Expect("hello", TimeLimit(kLong)).ok());
  EXPECT_FALSE(child->Ended());
  EXPECT_TRUE(child->Write(Bytes("again\n"), TimeLimit(kLong)).ok());
  EXPECT_TRUE(child->Expect(absl::string_view("again\0", 6), TimeLimit(kLong)).ok());
  EXPECT_EQ(*child->Wait(TimeLimit(kLong)), 7);
  EXPECT_EQ(*child->Wait(TimeLimit(kLong)), 7);
  EXPECT_TRUE(child->Ended());
}

TEST_F(ToolstackChildTest, ACommandThatIsNotThereIsNamed) {
  const absl::Status started = ToolstackChild::Start({"no-such-toolstack", "x"}).status();
  EXPECT_TRUE(absl::IsUnavailable(started));
  EXPECT_THAT(std::string(started.message()), HasSubstr("`no-such-toolstack x`"));
}

TEST_F(ToolstackChildTest, RubbishIsNotWhatIsExpected) {
  const auto child = Shell("printf 'he\\001o'; sleep 60");
  const absl::Status said = child->Expect("hello", TimeLimit(kLong));
  EXPECT_TRUE(absl::IsInvalidArgument(said));
  EXPECT_THAT(std::string(said.message()), HasSubstr("says \"he?"));
}

TEST_F(ToolstackChildTest, OneThatEndsOrIsSilentIsToldFromAnother) {
  EXPECT_TRUE(absl::IsUnavailable(Shell("printf he")->Expect("hello", TimeLimit(kLong))));
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(Shell("printf he; sleep 60")->Expect("hello", TimeLimit(kShort))));
}

TEST_F(ToolstackChildTest, WritingToOneThatDoesNotReadEndsAtTheLimit) {
  const std::string much(size_t{1} << 20, 'x');
  const auto child = Shell("sleep 60");
  EXPECT_TRUE(absl::IsDeadlineExceeded(child->Write(Bytes(much), TimeLimit(kShort))));
  const auto closed = Shell("exec 0<&-; printf x; sleep 60");
  EXPECT_TRUE(closed->Expect("x", TimeLimit(kLong)).ok());
  EXPECT_TRUE(absl::IsUnavailable(closed->Write(Bytes(much), TimeLimit(kLong))));
}

TEST_F(ToolstackChildTest, ALongTextArrivesWhole) {
  const auto child = Shell("wc -c | tr -d ' \\n'");
  const std::string much(300'000, 'x');
  EXPECT_TRUE(child->Write(Bytes(much), TimeLimit(kLong)).ok());
  child->CloseStdin();
  EXPECT_TRUE(child->Expect("300000", TimeLimit(kLong)).ok());
}

TEST_F(ToolstackChildTest, ItsMessagesAreKeptPrintableAndShort) {
  const auto child = Shell("printf 'first\\nsecond\\r\\n\\n\\001\\377\\n' >&2");
  EXPECT_EQ(*child->Wait(TimeLimit(kLong)), 0);
  EXPECT_EQ(child->Messages(), "first; second; ??");
  const auto loud =
      Shell("i=0; while [ $i -lt 500 ]; do echo a >&2; i=$((i+1)); done; echo end >&2");
  EXPECT_EQ(*loud->Wait(TimeLimit(kLong)), 0);
  EXPECT_LE(loud->Messages().size(), ToolstackChild::kMessageBytes);
  EXPECT_THAT(loud->Messages(), EndsWith("a; end"));
}

TEST_F(ToolstackChildTest, AKilledOneIsDeadWhenWaitedFor) {
  const auto child = Shell("exec sleep 60");
  EXPECT_TRUE(child->Kill().ok());
  EXPECT_EQ(*child->Wait(TimeLimit(kLong)), 128 + SIGKILL);
  EXPECT_TRUE(child->Kill().ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(Shell("sleep 60")->Wait(TimeLimit(kShort)).status()));
}

// What Run() relies on: from the moment of the signal on, end-of-file makes it do nothing.
TEST_F(ToolstackChildTest, AKilledOneDoesNotActOnTheEndOfItsPipe) {
  for (int i = 0; i < 50; ++i) {
    const auto child = Shell("printf x; read word; printf acted; sleep 60");
    ASSERT_TRUE(child->Expect("x", TimeLimit(kLong)).ok());
    ASSERT_TRUE(child->Kill().ok());
    child->CloseStdin();
    EXPECT_TRUE(absl::IsUnavailable(child->Expect("acted", TimeLimit(kLong))));
  }
}

TEST_F(ToolstackChildTest, ADroppedOneDiesWithItsObject) {
  pid_t pid = 0;
  {
    const auto child = Shell("printf x; exec sleep 60");
    ASSERT_TRUE(child->Expect("x", TimeLimit(kLong)).ok());
    pid = child->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

// Whatever ends this process closes the pipe: nobody else may hold its other end.
TEST_F(ToolstackChildTest, NoOtherChildKeepsThePipesOpen) {
  const auto first = Shell("cat >/dev/null; printf end");
  const auto second = Shell("sleep 60");
  first->CloseStdin();
  EXPECT_TRUE(first->Expect("end", TimeLimit(kLong)).ok());
}

// As xl does before it destroys its copy, and not if the report fails.
TEST_F(ToolstackChildTest, ItCanReportToOneThatIsDead) {
  const ShortFolder folder;
  const std::string unmade = folder.File("unmade");
  const pid_t session = fork();
  ASSERT_GE(session, 0);
  if (session == 0) {
    const auto child = Shell("printf x; read word; printf report && : >" + unmade);
    const bool heard = child->Expect("x", TimeLimit(kLong)).ok();
    kill(getpid(), heard ? SIGKILL : SIGTERM);
  }
  int ended = 0;
  ASSERT_EQ(waitpid(session, &ended, 0), session);
  EXPECT_EQ(WTERMSIG(ended), SIGKILL);
  const TimeLimit limit(kLong);
  while (access(unmade.c_str(), F_OK) != 0 && !limit.Passed()) poll(nullptr, 0, 1);
  EXPECT_EQ(access(unmade.c_str(), F_OK), 0);
}

TEST_F(ToolstackChildTest, ItsSignalsAndSessionAreItsOwn) {
  const auto child = Shell("ps -o sid= -p $$ | tr -d ' \\n'; sleep 60");
  EXPECT_TRUE(child->Expect(std::to_string(child->pid()), TimeLimit(kLong)).ok());
}

}  // namespace
}  // namespace haven
