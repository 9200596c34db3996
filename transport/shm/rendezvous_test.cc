// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "engine/base/byte_order.h"
#include "engine/base/random.h"
#include "transport/shm/socket_io.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

class RendezvousTest : public testing::Test {
 protected:
  RendezvousTest() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    raw_ = UniqueFd(pair[0]);
    rendezvous_.emplace(UniqueFd(pair[1]), "the test's peer");
  }

  static Token MakeToken(uint8_t name) {
    Token token{};
    token[0] = std::byte{name};
    return token;
  }
  // As the other side's Rendezvous sends it.
  void SendRecord(uint16_t kind, uint8_t token, std::span<const int> fds,
                  uint32_t magic = 0x56524448) {
    std::array<std::byte, 22> record;
    ByteWriter writer(record);
    writer.PutU32(magic);
    writer.PutU16(kind);
    writer.PutBytes(MakeToken(token));
    ASSERT_TRUE(SendPiece(raw_.get(), record, {.fds = fds}).ok());
  }
  absl::StatusCode ClaimCode() {
    return rendezvous_->Claim(RendezvousKind::kRegion, MakeToken(0)).status().code();
  }

  UniqueFd raw_;
  std::optional<Rendezvous> rendezvous_;
};

TEST_F(RendezvousTest, ClaimsByKindAndTokenInAnyOrder) {
  const int one[] = {STDERR_FILENO};
  const int two[] = {STDERR_FILENO, STDOUT_FILENO};
  SendRecord(1, 7, one);
  SendRecord(2, 7, two);
  SendRecord(3, 8, {});
  EXPECT_FALSE(rendezvous_->Claim(RendezvousKind::kRegion, MakeToken(8))->has_value());
  EXPECT_TRUE(rendezvous_->Claim(RendezvousKind::kConnected, MakeToken(8))->has_value());
  EXPECT_EQ((*rendezvous_->Claim(RendezvousKind::kLink, MakeToken(7)))->size(), 2u);
  EXPECT_EQ((*rendezvous_->Claim(RendezvousKind::kRegion, MakeToken(7)))->size(), 1u);
  // Each once.
  EXPECT_FALSE(rendezvous_->Claim(RendezvousKind::kRegion, MakeToken(7))->has_value());
}

TEST_F(RendezvousTest, MalformedPacketsAreDataLossForGood) {
  const int one[] = {STDERR_FILENO};
  const int two[] = {STDERR_FILENO, STDERR_FILENO};
  const std::vector<std::function<void()>> attempts = {
      [&] { SendRecord(0, 0, one); },
      [&] { SendRecord(4, 0, one); },
      [&] { SendRecord(1, 0, {}); },
      [&] { SendRecord(1, 0, two); },
      [&] { SendRecord(2, 0, one); },
      [&] { SendRecord(3, 0, one); },
      [&] { SendRecord(1, 0, one, 0); },
      [&] { ASSERT_EQ(send(raw_.get(), "x", 1, 0), 1); },
      [&] { ASSERT_EQ(send(raw_.get(), std::string(23, 'x').data(), 23, 0), 23); },
      [&] { ASSERT_EQ(send(raw_.get(), std::string(9000, 'x').data(), 9000, 0), 9000); },
  };
  for (const auto& attempt : attempts) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    raw_ = UniqueFd(pair[0]);
    rendezvous_.emplace(UniqueFd(pair[1]), "the test's peer");
    attempt();
    EXPECT_EQ(ClaimCode(), absl::StatusCode::kDataLoss);
    SendRecord(1, 0, one);
    EXPECT_EQ(ClaimCode(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(
        rendezvous_->Send(RendezvousKind::kConnected, MakeToken(0), {}, ShmDeadline(kTestTimeout))
            .code(),
        absl::StatusCode::kDataLoss);
  }
}

TEST_F(RendezvousTest, RandomPacketsAreDataLoss) {
  Random random(5);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::byte> garbage(1 + random.Below(64));
    random.Fill(garbage);
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    raw_ = UniqueFd(pair[0]);
    rendezvous_.emplace(UniqueFd(pair[1]), "the test's peer");
    ASSERT_TRUE(SendPiece(raw_.get(), garbage).ok());
    EXPECT_EQ(ClaimCode(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(RendezvousTest, HoardsABoundedNumberOfDescriptors) {
  const int fds_before = CountOpenFds();
  const int two[] = {STDERR_FILENO, STDERR_FILENO};
  for (size_t i = 0; i < kMaxUnclaimed; ++i) SendRecord(2, 1, two);
  EXPECT_EQ(ClaimCode(), absl::StatusCode::kOk);
  EXPECT_EQ(CountOpenFds(), fds_before + 2 * static_cast<int>(kMaxUnclaimed));
  SendRecord(2, 1, two);
  EXPECT_EQ(ClaimCode(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(CountOpenFds(), fds_before);
}

TEST_F(RendezvousTest, WhatWasSentBeforeTheEndCanBeClaimed) {
  const int one[] = {STDERR_FILENO};
  SendRecord(1, 3, one);
  raw_.reset();
  EXPECT_FALSE(rendezvous_->Claim(RendezvousKind::kRegion, MakeToken(4))->has_value());
  EXPECT_TRUE(rendezvous_->hung_up());
  EXPECT_TRUE(rendezvous_->Claim(RendezvousKind::kRegion, MakeToken(3))->has_value());
  EXPECT_EQ(rendezvous_->Await(RendezvousKind::kConnected, MakeToken(3), ShmDeadline(kTestTimeout))
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(
      rendezvous_->Send(RendezvousKind::kConnected, MakeToken(0), {}, ShmDeadline(kTestTimeout))
          .code(),
      absl::StatusCode::kUnavailable);
}

TEST_F(RendezvousTest, AwaitWaitsForThePacketAndNoLongerThanTheDeadline) {
  EXPECT_EQ(
      rendezvous_
          ->Await(RendezvousKind::kConnected, MakeToken(1), ShmDeadline(absl::Milliseconds(20)))
          .code(),
      absl::StatusCode::kDeadlineExceeded);
  std::thread answering([&] {
    SendRecord(3, 2, {});
    SendRecord(3, 1, {});
  });
  EXPECT_TRUE(
      rendezvous_->Await(RendezvousKind::kConnected, MakeToken(1), ShmDeadline(kTestTimeout)).ok());
  answering.join();
}

TEST_F(RendezvousTest, PeerThatTakesNothingCostsTheDeadline) {
  absl::Status sent;
  for (int i = 0; i < 100'000 && sent.ok(); ++i) {
    sent = rendezvous_->Send(RendezvousKind::kConnected, MakeToken(0), {},
                             ShmDeadline(absl::Milliseconds(20)));
  }
  EXPECT_EQ(sent.code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace haven
