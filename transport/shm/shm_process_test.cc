// SPDX-License-Identifier: Apache-2.0
//
// Sessions between two real processes.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/random.h"
#include "transport/shm/deadline.h"
#include "transport/shm/shm_transport.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/listening_test.h"
#include "transport/shm/testing/shm_pair.h"
#include "transport/shm/testing/shm_session.h"

namespace haven {
namespace {

constexpr uint64_t kRegionBytes = 256 << 10;

using ShmProcessTest = ListeningTest;

// Fills `bytes` with a pattern that names the round.
void Stamp(std::span<std::byte> bytes, uint64_t round) { Random(round).Fill(bytes); }

bool HasStamp(std::span<const std::byte> bytes, uint64_t round) {
  std::vector<std::byte> expected(bytes.size());
  Stamp(expected, round);
  return std::ranges::equal(bytes, expected);
}

bool WriteAndSignal(ShmSession& side, uint64_t round, uint32_t bytes) {
  Stamp(side.source.bytes.first(bytes), round);
  WriteRequest request = side.Write(round, 0, bytes);
  request.signaled = false;
  request.has_immediate = true;
  request.immediate = static_cast<uint32_t>(round);
  return side.link->PostWrites({&request, 1}).ok();
}

bool AwaitImmediate(ShmSession& side, uint64_t round) {
  const std::vector<Completion> got = Await(*side.link, 1);
  return got.size() == 1 && got[0].kind == CompletionKind::kImmediate &&
         got[0].result == CompletionResult::kOk && got[0].immediate == round &&
         side.link->PostReceives(1).ok();
}

// Ping-pong: each side checks all bytes of the other's write when the immediate arrives.
int EchoRounds(ShmSession side, uint64_t rounds) {
  HAVEN_CHECK_OK(side.link->PostReceives(1));
  if (!SendText(*side.channel, "ready").ok()) return 1;
  for (uint64_t round = 0; round < rounds; ++round) {
    const auto bytes = static_cast<uint32_t>(1 + round * 37 % 9'000);
    if (!AwaitImmediate(side, round)) return 2;
    if (!HasStamp(side.area.bytes.first(bytes), round)) return 3;
    if (!WriteAndSignal(side, round, bytes)) return 4;
  }
  return 0;
}

TEST_F(ShmProcessTest, DataIsThereBeforeItsImmediateInBothDirections) {
  constexpr uint64_t kRounds = 1000;
  ForkedPeer child([&] { return EchoRounds(MakePrimary(address_, kRegionBytes), kRounds); });
  ShmSession side = MakeBackup(*listener_, kRegionBytes);
  ASSERT_TRUE(side.link->PostReceives(1).ok());
  ASSERT_EQ(*ReceiveText(*side.channel), "ready");
  for (uint64_t round = 0; round < kRounds; ++round) {
    const auto bytes = static_cast<uint32_t>(1 + round * 37 % 9'000);
    ASSERT_TRUE(WriteAndSignal(side, round, bytes)) << round;
    ASSERT_TRUE(AwaitImmediate(side, round)) << round;
    ASSERT_TRUE(HasStamp(side.area.bytes.first(bytes), round)) << round;
  }
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(ShmProcessTest, AttachTakesTheSameProcessOnly) {
  ForkedPeer child([&] {
    ShmSession side = MakePrimary(address_, kRegionBytes);
    const auto again = ShmTransport().Connect(address_, kTestTimeout);
    if (!again.ok() || !ShmTransport().Attach(*side.endpoint, **again).ok()) return 1;
    return ReceiveText(**again).status().code() == absl::StatusCode::kUnavailable ? 0 : 2;
  });
  ShmSession side = MakeBackup(*listener_, kRegionBytes);
  auto same = AcceptChannel(*listener_);
  EXPECT_TRUE(ShmTransport().Attach(*side.endpoint, *same).ok());

  ForkedPeer other([&] {
    const auto channel = ShmTransport().Connect(address_, kTestTimeout);
    return channel.ok() && !ReceiveText(**channel).ok() ? 0 : 1;
  });
  auto stranger = AcceptChannel(*listener_);
  EXPECT_EQ(ShmTransport().Attach(*side.endpoint, *stranger).code(),
            absl::StatusCode::kFailedPrecondition);
  stranger.reset();
  EXPECT_EQ(other.Wait(), 0);
  same.reset();
  EXPECT_EQ(child.Wait(), 0);
  // Dead: not even a channel that was opened before it died will do.
  EXPECT_FALSE(ShmTransport().Attach(*side.endpoint, *side.channel).ok());
}

// As the backup works: a listener that gives each connection to a process of its own.
TEST_F(ShmProcessTest, ThePeerIsTheSessionProcessNotTheListener) {
  ForkedPeer listening([&] {
    if (!*WaitForFd(listener_->fd(), POLLIN, ShmDeadline(kTestTimeout))) return 1;
    const int accepted = **listener_->Accept();
    ForkedPeer session([&] {
      listener_.reset();
      const auto channel = ShmTransport().Adopt(accepted, kTestTimeout);
      if (!channel.ok()) return 2;
      if (!SendText(**channel, absl::StrCat(getpid())).ok()) return 3;
      return ReceiveText(**channel).ok() ? 0 : 4;
    });
    close(accepted);
    return session.Wait();
  });
  auto channel = ShmTransport().Connect(address_, kTestTimeout);
  ASSERT_TRUE(channel.ok()) << channel.status();
  const std::string session_pid = *ReceiveText(**channel);
  EXPECT_NE(session_pid, absl::StrCat(listening.pid()));
  EXPECT_EQ((*channel)->Describe(), absl::StrCat(address_, " pid ", session_pid));
  ASSERT_TRUE(SendText(**channel, "bye").ok());
  EXPECT_EQ(listening.Wait(), 0);
}

}  // namespace
}  // namespace haven
