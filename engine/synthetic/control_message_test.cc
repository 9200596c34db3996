// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/control_message.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

GuestMessage SomeMessage() {
  GuestMessage message;
  message.op = GuestOp::kQuery;
  message.id = 0x1122334455667788;
  for (size_t i = 0; i < message.values.size(); ++i) message.values[i] = UINT64_MAX - i;
  message.SetText("some text");
  return message;
}

std::array<std::byte, kGuestMessageBytes> Encode(const GuestMessage& message) {
  std::array<std::byte, kGuestMessageBytes> bytes;
  EncodeGuestMessage(message, bytes);
  return bytes;
}

TEST(GuestMessageTest, AMessageIsReadBackUnchanged) {
  GuestMessage message = SomeMessage();
  message.SetError(absl::AbortedError("why"));
  GuestMessage read;
  ASSERT_TRUE(DecodeGuestMessage(Encode(message), read).ok());
  EXPECT_EQ(read.op, message.op);
  EXPECT_EQ(read.id, message.id);
  EXPECT_EQ(read.code, absl::StatusCode::kAborted);
  EXPECT_EQ(read.values, message.values);
  EXPECT_EQ(read.text(), "why");
}

TEST(GuestMessageTest, TextThatIsTooLongIsCut) {
  GuestMessage message;
  message.SetText(std::string(5000, 'x'));
  GuestMessage read;
  ASSERT_TRUE(DecodeGuestMessage(Encode(message), read).ok());
  EXPECT_EQ(read.text(), std::string(GuestMessage::kMaxPayloadBytes, 'x'));
}

TEST(GuestMessageTest, UnsoundHeadersAreRefusedByField) {
  struct Change {
    size_t at;
    uint16_t value;
    const char* said;
  };
  for (const Change& change :
       {Change{0, 0, "magic"}, Change{4, 2, "version is 2"}, Change{6, 0, "operation is 0"},
        Change{6, kMaxGuestOp + 1, "operation is"}, Change{16, 17, "code is 17"},
        Change{18, 1, "code is"}, Change{20, GuestMessage::kMaxPayloadBytes + 1, "payload length"},
        Change{22, 1, "reserved field is 1"}}) {
    std::array<std::byte, kGuestMessageBytes> bytes = Encode(SomeMessage());
    StoreLe16(bytes.data() + change.at, change.value);
    GuestMessage read;
    const absl::Status status = DecodeGuestMessage(bytes, read);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(change.said));
  }
}

TEST(GuestMessageTest, GarbageNeverBreaksTheReader) {
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::array<std::byte, kGuestMessageBytes> bytes = Encode(SomeMessage());
    for (int change = 0; change < 3; ++change) {
      bytes[random.Below(32)] = static_cast<std::byte>(random.Below(256));
    }
    GuestMessage read;
    if (!DecodeGuestMessage(bytes, read).ok()) continue;
    EXPECT_LE(read.payload().size(), GuestMessage::kMaxPayloadBytes);
    EXPECT_LE(static_cast<uint16_t>(read.op), kMaxGuestOp);
  }
}

class GuestSocketPairTest : public ::testing::Test {
 protected:
  GuestSocketPairTest() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    one_.reset(pair[0]);
    two_.reset(pair[1]);
  }
  UniqueFd one_;
  UniqueFd two_;
};

TEST_F(GuestSocketPairTest, MessagesArriveWithTheirDescriptors) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::array<int, 2> sent = {null.get(), one_.get()};
  ASSERT_TRUE(SendGuestMessage(one_.get(), SomeMessage(), sent).ok());
  ASSERT_TRUE(SendGuestMessage(one_.get(), SomeMessage(), sent).ok());
  GuestMessage message;
  std::vector<UniqueFd> fds;
  EXPECT_EQ(*ReceiveGuestMessage(two_.get(), message, &fds), Received::kMessage);
  EXPECT_EQ(message.text(), "some text");
  ASSERT_EQ(fds.size(), 2u);
  EXPECT_EQ(fcntl(fds[0].get(), F_GETFD), FD_CLOEXEC);
  // Whoever expects none takes none.
  EXPECT_EQ(*ReceiveGuestMessage(two_.get(), message), Received::kMessage);
  EXPECT_EQ(*ReceiveGuestMessage(two_.get(), message), Received::kNothing);
}

TEST_F(GuestSocketPairTest, AClosedPeerIsSeenByBothCalls) {
  two_.reset();
  GuestMessage message;
  EXPECT_EQ(*ReceiveGuestMessage(one_.get(), message), Received::kClosed);
  EXPECT_EQ(SendGuestMessage(one_.get(), message).code(), absl::StatusCode::kUnavailable);
}

TEST_F(GuestSocketPairTest, APeerThatDoesNotReadDoesNotBlock) {
  absl::Status status;
  for (int i = 0; i < 100'000 && status.ok(); ++i) {
    status = SendGuestMessage(one_.get(), SomeMessage());
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GuestSocketPairTest, MessagesOfWrongSizeAreRefused) {
  std::vector<std::byte> bytes(kGuestMessageBytes + 100);
  EncodeGuestMessage(SomeMessage(), std::span(bytes).first(kGuestMessageBytes));
  for (const size_t size :
       {size_t{1}, kGuestMessageBytes - 1, kGuestMessageBytes + 1, kGuestMessageBytes + 100}) {
    ASSERT_EQ(send(one_.get(), bytes.data(), size, 0), static_cast<ssize_t>(size));
    GuestMessage message;
    EXPECT_EQ(ReceiveGuestMessage(two_.get(), message).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
}

}  // namespace
}  // namespace haven
