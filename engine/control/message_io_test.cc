// SPDX-License-Identifier: Apache-2.0
#include "engine/control/message_io.h"

#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "engine/control/control_testing.h"
#include "engine/control/wake_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using Bytes = std::vector<std::byte>;

// Says what the test has put in, and keeps what is sent.
class TestChannel final : public ControlChannel {
 public:
  absl::Status Send(std::span<const std::byte> message, absl::Duration) override {
    sent.emplace_back(message.begin(), message.end());
    return send_result;
  }
  absl::StatusOr<std::optional<Bytes>> Receive() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (coming_.empty()) return std::nullopt;
    Bytes next = std::move(coming_.front());
    coming_.pop_front();
    if (coming_.empty()) wake_.Clear();
    return next;
  }
  int fd() const override { return wake_.fd(); }
  std::string Describe() const override { return "test channel"; }

  void Put(Bytes message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    coming_.push_back(std::move(message));
    wake_.Signal();
  }

  std::vector<Bytes> sent;
  absl::Status send_result;

 private:
  const WakeFd wake_ = *WakeFd::Create();
  std::mutex mutex_;
  std::deque<Bytes> coming_;
};

class MessageIoTest : public testing::Test {
 protected:
  absl::StatusOr<ControlMessage> Wait(absl::Duration timeout) {
    return WaitForMessage(channel_, TimeLimit(timeout), *cancel_);
  }

  TestChannel channel_;
  const std::shared_ptr<Cancel> cancel_ = *Cancel::Create();
  const ControlMessage handover_ = Handover{.session = 5, .epoch = 6};
};

TEST_F(MessageIoTest, WhatIsSentIsReceived) {
  ASSERT_TRUE(SendMessage(channel_, handover_, kTestPatience).ok());
  ASSERT_EQ(channel_.sent.size(), 1u);
  EXPECT_FALSE((*ReceiveMessage(channel_)).has_value());
  channel_.Put(channel_.sent[0]);
  EXPECT_EQ(**ReceiveMessage(channel_), handover_);
}

TEST_F(MessageIoTest, AMessageThatBreaksItsRulesIsNotSent) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      SendMessage(channel_, Handover{.session = 0, .epoch = 6}, kTestPatience)));
  EXPECT_TRUE(channel_.sent.empty());
  channel_.send_result = absl::UnavailableError("closed");
  EXPECT_TRUE(absl::IsUnavailable(SendMessage(channel_, handover_, kTestPatience)));
}

TEST_F(MessageIoTest, GarbageNamesTheChannel) {
  channel_.Put(Bytes(40));
  const absl::Status status = ReceiveMessage(channel_).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), testing::StartsWith("test channel has sent garbage"));
}

TEST_F(MessageIoTest, WaitsForAMessageADeadlineOrACancel) {
  EXPECT_TRUE(absl::IsDeadlineExceeded(Wait(absl::Milliseconds(2)).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Wait(-absl::Seconds(1)).status()));
  const Bytes encoded = *EncodeControlMessage(handover_);
  std::thread peer([&] { channel_.Put(encoded); });
  EXPECT_EQ(*Wait(kTestPatience), handover_);
  peer.join();
  std::thread owner([&] { cancel_->Set(); });
  EXPECT_TRUE(absl::IsCancelled(Wait(kTestPatience).status()));
  owner.join();
}

TEST_F(MessageIoTest, APeerThatCanNotBeUnderstoodIsTold) {
  channel_.Put(Bytes(40));
  EXPECT_TRUE(absl::IsDataLoss(HearFirst(channel_, TimeLimit(kTestPatience), *cancel_).status()));
  ASSERT_EQ(channel_.sent.size(), 1u);
  const ControlMessage answer = *DecodeControlMessage(channel_.sent[0]);
  EXPECT_EQ(std::get<Refuse>(answer).code, RefuseCode::kVersion);
  channel_.Put(*EncodeControlMessage(handover_));
  EXPECT_EQ(*HearFirst(channel_, TimeLimit(kTestPatience), *cancel_), handover_);
  EXPECT_EQ(channel_.sent.size(), 1u);
}

TEST_F(MessageIoTest, RefusalsThatMayPassAreUnavailable) {
  EXPECT_TRUE(absl::IsUnavailable(RefuseStatus({RefuseCode::kNotReady, "x"})));
  EXPECT_TRUE(absl::IsUnavailable(RefuseStatus({RefuseCode::kGroupBusy, "x"})));
  EXPECT_TRUE(absl::IsFailedPrecondition(RefuseStatus({RefuseCode::kVersion, "x"})));
  EXPECT_EQ(RefuseStatus({RefuseCode::kVersion, "words"}).message(),
            "the peer refuses (version): words");
}

}  // namespace
}  // namespace haven
