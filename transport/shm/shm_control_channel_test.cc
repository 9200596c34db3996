// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_control_channel.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/random.h"
#include "transport/shm/socket_io.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr size_t kMax = ControlChannel::kMaxMessageBytes;

class ShmControlChannelTest : public testing::Test {
 protected:
  // Bytes to the acceptor as a peer may send them who does not keep to the format.
  void SendRaw(std::span<const std::byte> bytes, std::span<const int> fds = {}) {
    ASSERT_TRUE(
        SendAll(pair_.connector->fd(), bytes, ShmDeadline(kTestTimeout), {.fds = fds}).ok());
  }
  void SendRawHeader(uint32_t magic, uint32_t bytes) {
    std::array<std::byte, 8> header;
    ByteWriter writer(header);
    writer.PutU32(magic);
    writer.PutU32(bytes);
    SendRaw(header);
  }
  void ExpectBroken(absl::StatusCode code) {
    const auto got = pair_.acceptor->Receive();
    EXPECT_EQ(got.status().code(), code) << got.status();
    // And stays so, in both directions.
    EXPECT_EQ(pair_.acceptor->Receive().status().code(), code);
    EXPECT_EQ(SendText(*pair_.acceptor, "x").code(), code);
  }

  static constexpr uint32_t kMagic = 0x4d435648;
  ChannelPair pair_;
};

TEST_F(ShmControlChannelTest, MessagesArriveWholeAndInOrder) {
  EXPECT_FALSE(pair_.acceptor->Receive()->has_value());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(SendText(*pair_.connector, absl::StrCat("message ", i)).ok());
  }
  ASSERT_TRUE(SendText(*pair_.acceptor, "answer").ok());
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(*ReceiveText(*pair_.acceptor), absl::StrCat("message ", i));
  }
  EXPECT_FALSE(pair_.acceptor->Receive()->has_value());
  EXPECT_EQ(*ReceiveText(*pair_.connector), "answer");
}

TEST_F(ShmControlChannelTest, EverySizeUpToTheLargest) {
  Random random(3);
  for (const size_t bytes : {size_t{1}, size_t{7}, size_t{4096}, size_t{212992}, kMax - 1, kMax}) {
    std::vector<std::byte> message(bytes);
    random.Fill(message);
    std::thread sending(
        [&] { EXPECT_TRUE(pair_.connector->Send(message, kTestTimeout).ok()) << bytes; });
    const auto received = ReceiveText(*pair_.acceptor);
    sending.join();
    ASSERT_TRUE(received.ok()) << received.status();
    ASSERT_EQ(received->size(), bytes);
    EXPECT_EQ(memcmp(received->data(), message.data(), bytes), 0) << bytes;
  }
}

TEST_F(ShmControlChannelTest, HundredKilobytesGoWithoutAReader) {
  const std::string message(100'000, 'x');
  EXPECT_TRUE(pair_.connector->Send(std::as_bytes(std::span(message)), absl::ZeroDuration()).ok());
  EXPECT_EQ(*ReceiveText(*pair_.acceptor), message);
}

TEST_F(ShmControlChannelTest, EmptyAndTooLongMessagesAreRefusedBeforeSending) {
  EXPECT_EQ(pair_.connector->Send({}, kTestTimeout).code(), absl::StatusCode::kInvalidArgument);
  const std::vector<std::byte> too_long(kMax + 1);
  EXPECT_EQ(pair_.connector->Send(too_long, kTestTimeout).code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(SendText(*pair_.connector, "still usable").ok());
  EXPECT_EQ(*ReceiveText(*pair_.acceptor), "still usable");
}

TEST_F(ShmControlChannelTest, AMessageInPiecesIsNotReadyBeforeItsLastByte) {
  SendRawHeader(kMagic, 3);
  for (const char piece : {'a', 'b'}) {
    ASSERT_FALSE(pair_.acceptor->Receive()->has_value());
    SendRaw(std::as_bytes(std::span(&piece, 1)));
  }
  ASSERT_FALSE(pair_.acceptor->Receive()->has_value());
  const char last = 'c';
  SendRaw(std::as_bytes(std::span(&last, 1)));
  EXPECT_EQ(*ReceiveText(*pair_.acceptor), "abc");
}

TEST_F(ShmControlChannelTest, DescriptorIsReadableExactlyWhenThereIsSomething) {
  EXPECT_EQ(PollNow(pair_.acceptor->fd(), POLLIN), 0);
  ASSERT_TRUE(SendText(*pair_.connector, "one").ok());
  ASSERT_TRUE(SendText(*pair_.connector, "two").ok());
  EXPECT_EQ(*ReceiveText(*pair_.acceptor), "one");
  EXPECT_EQ(PollNow(pair_.acceptor->fd(), POLLIN), POLLIN);
  EXPECT_EQ(*ReceiveText(*pair_.acceptor), "two");
  EXPECT_EQ(PollNow(pair_.acceptor->fd(), POLLIN), 0);
}

TEST_F(ShmControlChannelTest, PeerThatClosesIsUnavailableAfterItsLastMessage) {
  ASSERT_TRUE(SendText(*pair_.connector, "last words").ok());
  pair_.connector.reset();
  EXPECT_EQ(*ReceiveText(*pair_.acceptor), "last words");
  ExpectBroken(absl::StatusCode::kUnavailable);
}

TEST_F(ShmControlChannelTest, PeerThatClosesInTheMiddleOfAMessageIsUnavailable) {
  SendRawHeader(kMagic, 100);
  ASSERT_FALSE(pair_.acceptor->Receive()->has_value());
  pair_.connector.reset();
  ExpectBroken(absl::StatusCode::kUnavailable);
}

TEST_F(ShmControlChannelTest, SendToAPeerThatHasClosedIsUnavailable) {
  pair_.connector.reset();
  EXPECT_EQ(SendText(*pair_.acceptor, "x").code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmControlChannelTest, WrongMagicIsDataLoss) {
  SendRawHeader(kMagic + 1, 3);
  ExpectBroken(absl::StatusCode::kDataLoss);
}

TEST_F(ShmControlChannelTest, ImpossibleLengthsAreDataLoss) {
  for (const uint32_t bytes : {uint32_t{0}, uint32_t{kMax + 1}, UINT32_MAX}) {
    pair_ = ChannelPair();
    SendRawHeader(kMagic, bytes);
    ExpectBroken(absl::StatusCode::kDataLoss);
  }
}

TEST_F(ShmControlChannelTest, GarbageIsDataLoss) {
  Random random(11);
  for (int round = 0; round < 50; ++round) {
    pair_ = ChannelPair();
    std::vector<std::byte> garbage(8 + random.Below(5000));
    random.Fill(garbage);
    SendRaw(garbage);
    ExpectBroken(absl::StatusCode::kDataLoss);
  }
}

TEST_F(ShmControlChannelTest, DescriptorsSlippedIntoTheStreamDoNotStay) {
  const int fds_before = CountOpenFds();
  const int fds[] = {STDERR_FILENO, STDERR_FILENO};
  for (int i = 0; i < 10; ++i) {
    std::array<std::byte, 9> message;
    ByteWriter writer(message);
    writer.PutU32(kMagic);
    writer.PutU32(1);
    writer.PutU8('x');
    SendRaw(message, fds);
    EXPECT_EQ(*ReceiveText(*pair_.acceptor), "x");
  }
  EXPECT_EQ(CountOpenFds(), fds_before);
}

TEST_F(ShmControlChannelTest, PeerThatDoesNotReadCostsTheDeadlineAndTheChannel) {
  const std::vector<std::byte> message(kMax);
  const absl::Status refused = pair_.connector->Send(message, absl::Milliseconds(30));
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("does not read"));
  EXPECT_EQ(SendText(*pair_.connector, "x").code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ShmControlChannelTest, DescribesThePeer) {
  EXPECT_EQ(pair_.connector->Describe(), absl::StrCat("unix:@test pid ", getpid()));
}

TEST(ShmControlChannel, WhatIsNoUnixStreamSocketIsRefused) {
  const auto open_status = [](int fd) {
    return OpenChannel(UniqueFd(fd), HandshakeSide::kAcceptor).status().code();
  };
  EXPECT_EQ(open_status(open("/dev/null", O_RDWR | O_CLOEXEC)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_status(socket(AF_INET, SOCK_STREAM, 0)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_status(socket(AF_UNIX, SOCK_DGRAM, 0)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_status(-1), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace haven
