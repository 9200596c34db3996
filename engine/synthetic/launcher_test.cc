// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/launcher.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/synthetic/connection.h"
#include "engine/synthetic/guest_socket.h"
#include "engine/synthetic/operator.h"
#include "engine/synthetic/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

class LauncherTest : public GuestTest {
 protected:
  absl::StatusOr<pid_t> Start(const std::string& text) {
    return StartSyntheticGuest(Launch(), *ParseSyntheticSpec(text));
  }

  void Stop(const std::string& name) {
    EXPECT_TRUE(EndSyntheticGuest(dir_, name, DomainEnd::kShutdown).ok());
  }
};

// Fields of /proc/PID/stat from the parent's pid on: parent, process group, session.
std::array<pid_t, 3> FamilyOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  char state;
  std::array<pid_t, 3> family{};
  fields >> state >> family[0] >> family[1] >> family[2];
  return family;
}

TEST_F(LauncherTest, AGuestBelongsToNobody) {
  const absl::StatusOr<pid_t> pid = Start("synthetic:mem=1M");
  ASSERT_TRUE(pid.ok()) << pid.status();
  const auto [parent, group, session] = FamilyOf(*pid);
  // The test is a subreaper: an orphan becomes its child, which no other process is allowed to be.
  EXPECT_EQ(parent, getpid());
  EXPECT_NE(group, getpgrp());
  EXPECT_NE(session, getsid(0));
  EXPECT_NE(session, *pid) << "it can not acquire a terminal";
  Stop("synthetic");
}

TEST_F(LauncherTest, AGuestOutlivesItsStarter) {
  const pid_t starter = fork();
  if (starter == 0) {
    _exit(Start("synthetic:mem=1M,dirty=10000").ok() ? 0 : 1);
  }
  int status;
  ASSERT_EQ(waitpid(starter, &status, 0), starter);
  ASSERT_EQ(status, 0);
  const uint64_t writes = QuerySyntheticGuest(dir_, "synthetic")->writes[0];
  EXPECT_TRUE(
      Eventually([&] { return QuerySyntheticGuest(dir_, "synthetic")->writes[0] > writes; }));
  Stop("synthetic");
}

TEST_F(LauncherTest, ANameIsTakenOnce) {
  ASSERT_TRUE(Start("synthetic:mem=1M").ok());
  const absl::Status second = Start("synthetic:mem=1M").status();
  EXPECT_EQ(second.code(), absl::StatusCode::kAlreadyExists) << second;
  EXPECT_TRUE(QuerySyntheticGuest(dir_, "synthetic").ok()) << "the first one is unharmed";
  ASSERT_TRUE(Start("synthetic:mem=1M,name=other").ok());
  Stop("synthetic");
  Stop("other");
}

TEST_F(LauncherTest, OfManyStartsWithOneNameOneSucceeds) {
  std::vector<std::thread> threads;
  std::array<absl::Status, 6> results;
  for (absl::Status& result : results) {
    threads.emplace_back([this, &result] { result = Start("synthetic:mem=1M").status(); });
  }
  for (std::thread& thread : threads) thread.join();
  int started = 0;
  for (const absl::Status& result : results) {
    started += result.ok() ? 1 : 0;
    EXPECT_TRUE(result.ok() || absl::IsAlreadyExists(result)) << result;
  }
  EXPECT_EQ(started, 1);
  Stop("synthetic");
}

TEST_F(LauncherTest, TheNameOfADeadGuestIsFree) {
  const absl::StatusOr<pid_t> first = Start("synthetic:mem=1M");
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(kill(*first, SIGKILL), 0);
  EXPECT_TRUE(NoProcessLeft());
  const absl::Status dead = QuerySyntheticGuest(dir_, "synthetic").status();
  EXPECT_EQ(dead.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(dead.message()), HasSubstr("its process is dead"));
  ASSERT_TRUE(Start("synthetic:mem=1M").ok());
  Stop("synthetic");
}

TEST_F(LauncherTest, ADeadGuestIsFoundToBeGoneByWhoeverAttaches) {
  const absl::StatusOr<pid_t> guest = Start("synthetic:mem=1M");
  ASSERT_TRUE(guest.ok());
  ASSERT_EQ(kill(*guest, SIGKILL), 0);
  EXPECT_TRUE(NoProcessLeft());
  const absl::Status dead = SyntheticConnection::Attach(dir_, "synthetic").status();
  EXPECT_EQ(dead.code(), absl::StatusCode::kNotFound) << "for good: not worth another attempt";
  EXPECT_THAT(std::string(dead.message()), HasSubstr("its process is dead"));
  EXPECT_NE(access(PathOf("synthetic-synthetic.sock").c_str(), F_OK), 0);
  EXPECT_EQ(SyntheticConnection::Attach(dir_, "synthetic").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(LauncherTest, WhatTheGuestCanNotDoIsReportedByTheStart) {
  EXPECT_EQ(Start("synthetic:mem=1M,log=/no/such/directory/log").status().code(),
            absl::StatusCode::kNotFound);
  SyntheticLaunch launch = Launch();
  launch.runtime_dir = "/no/such/directory";
  EXPECT_EQ(StartSyntheticGuest(launch, SyntheticSpec()).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_NE(access(PathOf("synthetic-synthetic.sock").c_str(), F_OK), 0);
}

TEST_F(LauncherTest, ACommandThatIsNoGuestIsReported) {
  SyntheticLaunch launch = Launch();
  launch.command = {"/no/such/program"};
  EXPECT_EQ(StartSyntheticGuest(launch, SyntheticSpec()).status().code(),
            absl::StatusCode::kUnavailable);
  launch.command = {"/bin/true"};
  const absl::Status status = StartSyntheticGuest(launch, SyntheticSpec()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ended before it was ready"));
  launch.command = {};
  EXPECT_EQ(StartSyntheticGuest(launch, SyntheticSpec()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(LauncherTest, AGuestThatIsNotReadyInTimeIsGivenUpAndEndsItself) {
  SyntheticLaunch launch = Launch();
  launch.timeout = absl::ZeroDuration();
  EXPECT_EQ(StartSyntheticGuest(launch, SyntheticSpec()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(NoProcessLeft());
}

TEST_F(LauncherTest, AGuestWithoutAStarterSaysHowItIsStarted) {
  const pid_t guest = fork();
  if (guest == 0) {
    close(3);
    execl("/proc/self/exe", "guest", kTestGuestWord, nullptr);
    _exit(1);
  }
  int status;
  ASSERT_EQ(waitpid(guest, &status, 0), guest);
  EXPECT_EQ(WEXITSTATUS(status), 2);
}

// Talks to a guest's socket without the classes that do it right.
class GuestServerTest : public LauncherTest {
 protected:
  GuestServerTest() { EXPECT_TRUE(Start("synthetic:mem=1M").ok()); }
  ~GuestServerTest() override { Stop("synthetic"); }

  static bool AwaitClosed(const UniqueFd& socket) {
    return Eventually([&] {
      std::byte byte;
      const ssize_t count = recv(socket.get(), &byte, 1, MSG_DONTWAIT);
      return count == 0 || (count < 0 && errno == ECONNRESET);
    });
  }
};

TEST_F(GuestServerTest, AConnectionThatSendsGarbageIsClosedAndTheGuestGoesOn) {
  for (const size_t bytes : {size_t{1}, kGuestMessageBytes, size_t{20'000}}) {
    const UniqueFd socket = *ConnectToGuest(dir_, "synthetic");
    const std::string garbage(bytes, 'x');
    ASSERT_EQ(send(socket.get(), garbage.data(), garbage.size(), 0),
              static_cast<ssize_t>(garbage.size()));
    EXPECT_TRUE(AwaitClosed(socket));
    EXPECT_TRUE(QuerySyntheticGuest(dir_, "synthetic").ok());
  }
}

TEST_F(GuestServerTest, OnlyTheAttachedProcessControls) {
  GuestChannel channel("synthetic", *ConnectToGuest(dir_, "synthetic"));
  for (const GuestOp op :
       {GuestOp::kEnableLogDirty, GuestOp::kGateStats, GuestOp::kHold, GuestOp::kOpenAll,
        GuestOp::kDiscard, GuestOp::kPrepare, GuestOp::kRun}) {
    EXPECT_EQ(channel.Call(op).code(), absl::StatusCode::kPermissionDenied);
  }
  EXPECT_EQ(QuerySyntheticGuest(dir_, "synthetic")->gate, GateMode::kAbsent);
  // Without a reply, the answer is the end of the connection.
  ASSERT_TRUE(channel.Post(GuestOp::kSuspend, 5).ok());
  EXPECT_EQ(channel.Call(GuestOp::kQuery).code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(QuerySyntheticGuest(dir_, "synthetic")->suspended);
}

TEST_F(GuestServerTest, OrdersForAWaitingCopyAreRefusedByARunningGuest) {
  const auto connection = *SyntheticConnection::Attach(dir_, "synthetic");
  EXPECT_EQ(connection->channel().Call(GuestOp::kPrepare).code(),
            absl::StatusCode::kFailedPrecondition);
  // Whoever lets a copy run may ask again, when the first answer is late.
  EXPECT_TRUE(connection->channel().Call(GuestOp::kRun).ok());
}

TEST_F(GuestServerTest, ConnectionsBeyondTheLimitAreClosed) {
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 17; ++i) sockets.push_back(*ConnectToGuest(dir_, "synthetic"));
  EXPECT_TRUE(AwaitClosed(sockets.back()));
  sockets.clear();
  EXPECT_TRUE(QuerySyntheticGuest(dir_, "synthetic").ok());
}

TEST_F(GuestServerTest, AGuestThatHangsIsGivenUp) {
  const auto connection = *SyntheticConnection::Attach(dir_, "synthetic");
  ASSERT_EQ(kill(connection->pid(), SIGSTOP), 0);
  GuestMessage message;
  message.op = GuestOp::kGateStats;
  EXPECT_EQ(connection->channel().Call(message, absl::Milliseconds(50)).code(),
            absl::StatusCode::kDeadlineExceeded);
  ASSERT_EQ(kill(connection->pid(), SIGCONT), 0);
  // The late reply is not taken for that of the next request.
  message.op = GuestOp::kQuery;
  ASSERT_TRUE(connection->channel().Call(message).ok());
  EXPECT_EQ(message.op, GuestOp::kQuery);
}

}  // namespace
}  // namespace haven
