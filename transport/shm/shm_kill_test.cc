// SPDX-License-Identifier: Apache-2.0
//
// Two real processes, one of which is killed.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "transport/shm/deadline.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/listening_test.h"
#include "transport/shm/testing/shm_pair.h"
#include "transport/shm/testing/shm_session.h"

namespace haven {
namespace {

constexpr uint64_t kRegionBytes = 256 << 10;

using ShmKillTest = ListeningTest;

// What both sides do after their peer was killed.
void ExpectPeerIsGone(ShmSession& side, ForkedPeer& child) {
  ASSERT_TRUE(side.link->ArmEvent().ok());
  ASSERT_TRUE(PollAll(*side.link).empty());
  EXPECT_EQ(PollNow(side.link->event_fd(), POLLIN), 0);
  child.Kill(SIGKILL);
  EXPECT_TRUE(*WaitForFd(side.link->event_fd(), POLLIN, ShmDeadline(kTestTimeout)));
  const std::vector<Completion> end = PollAll(*side.link);
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0].result, CompletionResult::kRetry);
  const WriteRequest request = side.Write(1, 0, 10);
  EXPECT_EQ(side.link->PostWrites({&request, 1}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReceiveText(*side.channel).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(SendText(*side.channel, "x").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(side.endpoint->PrepareLink().status().code(), absl::StatusCode::kUnavailable);
  // There is nobody left to cut off, which is as good.
  EXPECT_TRUE(side.link->Revoke().ok());
}

int SleepForEver(const ShmSession& side) {
  HAVEN_CHECK(side.link != nullptr);
  for (;;) pause();
}

TEST_F(ShmKillTest, TheBackupSeesThePrimaryKilled) {
  ForkedPeer child([&] { return SleepForEver(MakePrimary(address_, kRegionBytes)); });
  ShmSession side = MakeBackup(*listener_, kRegionBytes);
  ExpectPeerIsGone(side, child);
}

TEST_F(ShmKillTest, ThePrimarySeesTheBackupKilled) {
  ForkedPeer child([&] { return SleepForEver(MakeBackup(*listener_, kRegionBytes)); });
  ShmSession side = MakePrimary(address_, kRegionBytes);
  ExpectPeerIsGone(side, child);
}

TEST_F(ShmKillTest, WhatAKilledPrimaryHadSentIsStillDelivered) {
  ForkedPeer child([&] {
    ShmSession side = MakePrimary(address_, kRegionBytes);
    if (!ReceiveText(*side.channel).ok()) return 1;
    for (uint32_t i = 0; i < 3; ++i) {
      side.source.bytes[0] = std::byte{7};
      WriteRequest request = side.Write(i, 0, 1);
      request.has_immediate = true;
      request.immediate = i;
      if (!side.link->PostWrites({&request, 1}).ok()) return 2;
    }
    raise(SIGKILL);
    return 3;
  });
  ShmSession side = MakeBackup(*listener_, kRegionBytes);
  ASSERT_TRUE(side.link->PostReceives(10).ok());
  ASSERT_TRUE(SendText(*side.channel, "go").ok());
  const std::vector<Completion> got = Await(*side.link, 4);
  ASSERT_EQ(got.size(), 4u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(got[i].result, CompletionResult::kOk);
    EXPECT_EQ(got[i].immediate, i);
  }
  EXPECT_EQ(got[3].result, CompletionResult::kRetry);
  EXPECT_EQ(side.area.bytes[0], std::byte{7});
  EXPECT_EQ(child.Wait(), -SIGKILL);
}

// A writer that never sleeps on the event and whose own completions always succeed.
TEST_F(ShmKillTest, ABusyWriterSeesItsPeerKilled) {
  ForkedPeer child([&] { return SleepForEver(MakeBackup(*listener_, kRegionBytes)); });
  ShmSession side = MakePrimary(address_, kRegionBytes);
  const WriteRequest request = side.Write(7, 0, 64);
  ASSERT_TRUE(side.link->PostWrites({&request, 1}).ok());
  child.Kill(SIGKILL);
  child.Wait();
  const ShmDeadline deadline(kTestTimeout);
  std::vector<Completion> last;
  absl::Status posted;
  while (posted.ok() && !deadline.Passed()) {
    const std::vector<Completion> got = PollAll(*side.link);
    if (!got.empty()) last = got;
    posted = side.link->PostWrites({&request, 1});
  }
  EXPECT_EQ(posted.code(), absl::StatusCode::kUnavailable) << posted;
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].id, 7u);
  EXPECT_EQ(last[0].result, CompletionResult::kRetry);
}

TEST_F(ShmKillTest, AStoppedPeerIsNotADeadOne) {
  ForkedPeer child([&] { return SleepForEver(MakePrimary(address_, kRegionBytes)); });
  ShmSession side = MakeBackup(*listener_, kRegionBytes);
  child.Kill(SIGSTOP);
  ASSERT_TRUE(side.link->ArmEvent().ok());
  EXPECT_TRUE(PollAll(*side.link).empty());
  const WriteRequest request = side.Write(1, 0, 64);
  ASSERT_TRUE(side.link->PostWrites({&request, 1}).ok());
  ASSERT_EQ(PollAll(*side.link).size(), 1u);
  EXPECT_TRUE(side.link->Revoke().ok());
  EXPECT_EQ(child.Wait(), -SIGKILL);
}

// Writes a growing counter to the front of the peer's area as fast as it can, until it is killed.
int Hammer(ShmSession side) {
  const std::vector<WriteRequest> requests(64, [&] {
    WriteRequest request = side.Write(0, 0, sizeof(uint64_t));
    request.signaled = false;
    return request;
  }());
  for (uint64_t count = 1;; ++count) {
    StoreLe64(side.source.bytes.data(), count);
    if (!side.link->PostWrites(requests).ok()) return 1;
  }
}

uint64_t LoadCounter(const ShmSession& side) {
  // Another process writes it.
  return *reinterpret_cast<const volatile uint64_t*>(side.area.bytes.data());
}

// What a promotion over shm relies on. (That Revoke waits for the death of a writer which a signal
// does not stop at once is shown in peer_process_test.cc.)
TEST_F(ShmKillTest, AfterRevokeNotAByteLands) {
  for (int round = 0; round < 100; ++round) {
    ForkedPeer child([&] { return Hammer(MakePrimary(address_, kRegionBytes)); });
    ShmSession side = MakeBackup(*listener_, kRegionBytes);
    const ShmDeadline deadline(kTestTimeout);
    while (LoadCounter(side) < 100) ASSERT_FALSE(deadline.Passed());
    const absl::Status revoked = side.link->Revoke();
    const uint64_t then = LoadCounter(side);
    ASSERT_TRUE(revoked.ok()) << revoked;
    for (int look = 0; look < 100'000; ++look) ASSERT_EQ(LoadCounter(side), then) << round;
    EXPECT_EQ(child.Wait(), -SIGKILL);
    EXPECT_EQ(LoadCounter(side), then) << round;
    const WriteRequest request = side.Write(1, 0, 64);
    EXPECT_EQ(side.link->PostWrites({&request, 1}).code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(PollAll(*side.link).empty());
  }
}

TEST_F(ShmKillTest, NothingIsLeftBehindWhicheverSideIsKilled) {
  const auto files_in_dev_shm = [] {
    using std::filesystem::directory_iterator;
    return std::distance(directory_iterator("/dev/shm"), directory_iterator());
  };
  const auto files_before = files_in_dev_shm();
  const int fds_before = CountOpenFds();
  for (int round = 0; round < 5; ++round) {
    ForkedPeer child([&] { return SleepForEver(MakePrimary(address_, kRegionBytes)); });
    ShmSession side = MakeBackup(*listener_, kRegionBytes);
    EXPECT_EQ(files_in_dev_shm(), files_before);
    child.Kill(SIGKILL);
    child.Wait();
  }
  EXPECT_EQ(CountOpenFds(), fds_before);
  EXPECT_EQ(files_in_dev_shm(), files_before);
}

}  // namespace
}  // namespace haven
