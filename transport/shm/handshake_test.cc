// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <thread>

#include "engine/base/byte_order.h"
#include "engine/base/random.h"
#include "transport/shm/socket_io.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr size_t kRecordBytes = 24;
using Record = std::array<std::byte, kRecordBytes>;

// A record as the protocol has it: magic, version, step, token.
Record MakeRecord(uint16_t step, uint32_t magic = 0x53485648, uint16_t version = 1) {
  Record record{};
  ByteWriter writer(record);
  writer.PutU32(magic);
  writer.PutU16(version);
  writer.PutU16(step);
  return record;
}

absl::Status Send(int socket, const Record& record, std::span<const int> fds = {}) {
  return SendAll(socket, record, ShmDeadline(kTestTimeout), {.fds = fds, .credentials = true});
}

absl::Status Accept(int socket, absl::Duration timeout = kTestTimeout) {
  return RunHandshake(socket, HandshakeSide::kAcceptor, ShmDeadline(timeout)).status();
}

// One end of a packet socket pair, as a hello carries it.
UniqueFd PacketSocket() {
  int pair[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  close(pair[1]);
  return UniqueFd(pair[0]);
}

// Waits until the other side has finished and closed, for which this process has to be alive.
void AwaitEnd(int socket) {
  char byte;
  while (read(socket, &byte, 1) > 0) {
  }
}

TEST(Handshake, NamesTheProcessAtTheOtherEnd) {
  SocketPair sockets;
  ForkedPeer child([&] {
    sockets.acceptor.reset();
    const auto result =
        RunHandshake(sockets.connector.get(), HandshakeSide::kConnector, ShmDeadline(kTestTimeout));
    if (!result.ok() || result->peer->pid() != getppid()) return 1;
    AwaitEnd(sockets.connector.get());
    return 0;
  });
  sockets.connector.reset();
  const auto result =
      RunHandshake(sockets.acceptor.get(), HandshakeSide::kAcceptor, ShmDeadline(kTestTimeout));
  ASSERT_TRUE(result.ok()) << result.status();
  // SO_PEERCRED would name this process, which has made both ends.
  EXPECT_EQ(result->peer->pid(), child.pid());
  EXPECT_FALSE(result->peer->IsDead());
  sockets.acceptor.reset();
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_TRUE(result->peer->IsDead());
}

TEST(Handshake, ConnectsTheRendezvous) {
  SocketPair sockets;
  absl::StatusOr<HandshakeResult> connected;
  std::thread connecting([&] {
    connected =
        RunHandshake(sockets.connector.get(), HandshakeSide::kConnector, ShmDeadline(kTestTimeout));
  });
  auto accepted =
      RunHandshake(sockets.acceptor.get(), HandshakeSide::kAcceptor, ShmDeadline(kTestTimeout));
  connecting.join();
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  ASSERT_TRUE(connected.ok()) << connected.status();
  const std::array<std::byte, 1> sent = {std::byte{9}};
  ASSERT_TRUE(SendPiece(connected->rendezvous.get(), sent).ok());
  std::array<std::byte, 8> room;
  const auto received = ReceivePiece(accepted->rendezvous.get(), room);
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ((*received)->bytes, 1u);
  EXPECT_EQ(room[0], std::byte{9});
}

TEST(Handshake, OtherVersionIsNamed) {
  SocketPair sockets;
  ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(1, 0x53485648, 2)).ok());
  const absl::Status refused = Accept(sockets.acceptor.get());
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("version 2"));
}

TEST(Handshake, WrongMagicAndWrongStepAreDataLoss) {
  {
    SocketPair sockets;
    ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(1, 1)).ok());
    EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kDataLoss);
  }
  for (const int step : {0, 2, 3, 4, 65535}) {
    SocketPair sockets;
    const UniqueFd packets = PacketSocket();
    const int fds[] = {packets.get()};
    ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(static_cast<uint16_t>(step)), fds).ok());
    EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kDataLoss) << step;
  }
}

TEST(Handshake, WrongDescriptorsAreDataLossAndDoNotLeak) {
  const int fds_before = CountOpenFds();
  {
    // None, a pipe, a socket of the wrong type, two, and more than there is room for.
    const UniqueFd packets = PacketSocket();
    SocketPair streams;
    const std::vector<std::vector<int>> attempts = {
        {}, {STDERR_FILENO}, {streams.connector.get()}, {packets.get(), packets.get()}};
    for (const std::vector<int>& fds : attempts) {
      SocketPair sockets;
      ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(1), fds).ok());
      EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kDataLoss) << fds.size();
    }
  }
  EXPECT_EQ(CountOpenFds(), fds_before);
}

TEST(Handshake, SurplusDescriptorsAreClosedByTheKernel) {
  SocketPair sockets;
  const UniqueFd packets = PacketSocket();
  const std::vector<int> many(64, packets.get());
  Record record = MakeRecord(1);
  iovec piece = {.iov_base = record.data(), .iov_len = record.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(64 * sizeof(int))> control{};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(64 * sizeof(int));
  memcpy(CMSG_DATA(header), many.data(), 64 * sizeof(int));
  ASSERT_EQ(sendmsg(sockets.connector.get(), &message, 0), static_cast<ssize_t>(record.size()));
  const int fds_before = CountOpenFds();
  EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(CountOpenFds(), fds_before);
}

TEST(Handshake, GarbageIsDataLossOrAnotherErrorNeverAHang) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    SocketPair sockets;
    std::vector<std::byte> garbage(1 + random.Below(200));
    random.Fill(garbage);
    ASSERT_TRUE(SendAll(sockets.connector.get(), garbage, ShmDeadline(kTestTimeout)).ok());
    // What is too short for a record is followed by the end.
    if (garbage.size() < kRecordBytes) sockets.connector.reset();
    const absl::Status refused = Accept(sockets.acceptor.get());
    EXPECT_EQ(refused.code(), garbage.size() < kRecordBytes ? absl::StatusCode::kUnavailable
                                                            : absl::StatusCode::kDataLoss)
        << refused;
  }
}

TEST(Handshake, SilentPeerCostsTheDeadlineNotMore) {
  SocketPair sockets;
  EXPECT_EQ(Accept(sockets.acceptor.get(), absl::Milliseconds(20)).code(),
            absl::StatusCode::kDeadlineExceeded);
  // One that says hello and then nothing, and one byte by byte that never ends a record.
  SocketPair half;
  const UniqueFd packets = PacketSocket();
  const int fds[] = {packets.get()};
  ASSERT_TRUE(Send(half.connector.get(), MakeRecord(1), fds).ok());
  EXPECT_EQ(Accept(half.acceptor.get(), absl::Milliseconds(20)).code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(Handshake, PeerThatClosesIsUnavailable) {
  SocketPair sockets;
  sockets.connector.reset();
  EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kUnavailable);
}

TEST(Handshake, AnswerWithAWrongTokenIsRefused) {
  SocketPair sockets;
  const UniqueFd packets = PacketSocket();
  const int fds[] = {packets.get()};
  ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(1), fds).ok());
  ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(2)).ok());
  ASSERT_TRUE(Send(sockets.connector.get(), MakeRecord(3)).ok());
  EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kPermissionDenied);
}

// The one who said hello has handed its socket to another process, which knows the right answer.
// That other one would write, and killing the first would cut nobody off.
TEST(Handshake, AnswerFromAnotherProcessIsRefused) {
  SocketPair sockets;
  ForkedPeer child([&] {
    sockets.acceptor.reset();
    const int socket = sockets.connector.get();
    const UniqueFd packets = PacketSocket();
    const int fds[] = {packets.get()};
    if (!Send(socket, MakeRecord(1), fds).ok()) return 1;
    Record record;
    const ShmDeadline deadline(kTestTimeout);
    if (!ReceiveAll(socket, record, deadline).ok()) return 1;  // Its hello.
    if (!ReceiveAll(socket, record, deadline).ok()) return 1;  // Its challenge.
    ForkedPeer other([&] {
      Record response = MakeRecord(3);
      std::copy(record.begin() + 8, record.end(), response.begin() + 8);
      return Send(socket, MakeRecord(2)).ok() && Send(socket, response).ok() ? 0 : 1;
    });
    AwaitEnd(socket);
    return other.Wait();
  });
  sockets.connector.reset();
  const absl::Status refused = Accept(sockets.acceptor.get());
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("not the one that said hello"));
  sockets.acceptor.reset();
  EXPECT_EQ(child.Wait(), 0);
}

// The hello is there, with a pid that nobody has any more.
TEST(Handshake, PeerThatDiedAfterItsHelloIsUnavailable) {
  SocketPair sockets;
  ForkedPeer child([&] {
    const UniqueFd packets = PacketSocket();
    const int fds[] = {packets.get()};
    return Send(sockets.connector.get(), MakeRecord(1), fds).ok() ? 0 : 1;
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kUnavailable);
}

TEST(Handshake, AnotherUserIsRefusedOnBothSides) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to act as another user";
  SocketPair sockets;
  ForkedPeer child([&] {
    sockets.acceptor.reset();
    if (setresuid(65534, 65534, 65534) != 0) return 1;
    const auto refused =
        RunHandshake(sockets.connector.get(), HandshakeSide::kConnector, ShmDeadline(kTestTimeout));
    return refused.status().code() == absl::StatusCode::kPermissionDenied ? 0 : 2;
  });
  sockets.connector.reset();
  // The child looks at SO_PEERCRED, sees root and gives up before it has said anything.
  EXPECT_EQ(Accept(sockets.acceptor.get()).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Handshake, HelloOfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to act as another user";
  SocketPair sockets;
  ForkedPeer child([&] {
    if (setresuid(65534, 65534, 65534) != 0) return 1;
    const UniqueFd packets = PacketSocket();
    const int fds[] = {packets.get()};
    return Send(sockets.connector.get(), MakeRecord(1), fds).ok() ? 0 : 2;
  });
  const absl::Status refused = Accept(sockets.acceptor.get());
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("65534"));
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace haven
