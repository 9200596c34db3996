// SPDX-License-Identifier: Apache-2.0
#include "xen/base/qmp_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/allocations_testing.h"
#include "engine/base/check.h"
#include "engine/base/short_folder_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/fake_qemu_testing.h"

namespace haven {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TimeLimit Long() { return TimeLimit(absl::Minutes(5)); }
// Never more than what is there already.
TimeLimit None() { return TimeLimit(absl::ZeroDuration()); }

class QmpChannelTest : public ::testing::Test {
 protected:
  // A channel to a fake that has negotiated.
  std::unique_ptr<QmpChannel> Open() {
    qemu_ = std::make_unique<FakeQemu>(path_);
    auto channel = QmpChannel::Connect(path_, Long());
    HAVEN_CHECK_OK(channel);
    return *std::move(channel);
  }
  absl::Status ConnectTo(std::string greeting) {
    qemu_ = std::make_unique<FakeQemu>(path_, std::move(greeting));
    return QmpChannel::Connect(path_, Long()).status();
  }

  const ShortFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  const std::string path_ = folder_ / "qmp";
  std::unique_ptr<FakeQemu> qemu_;
};

// Whatever is asked of it: the same error.
void ExpectGone(QmpChannel& channel, const absl::Status& why) {
  EXPECT_FALSE(why.ok());
  EXPECT_EQ(channel.Next().status(), why);
  EXPECT_EQ(channel.Send("{}\r\n"), why);
  EXPECT_EQ(channel.Wait(Long()).status(), why);
  EXPECT_EQ(channel.Call("stop", "", Long()).status(), why);
  EXPECT_EQ(channel.Next().status(), why);
}

TEST_F(QmpChannelTest, IsTheSocketThatLibxlDoesNotUse) {
  EXPECT_EQ(QmpSocketPath(12), "/var/run/xen/qmp-libxenstat-12");
}

TEST_F(QmpChannelTest, NegotiatesAndKnowsTheVersion) {
  const auto channel = Open();
  EXPECT_EQ(channel->version(), "7.2.22 Debian 1:7.2+dfsg-7+deb12u18+b3");
  EXPECT_THAT(qemu_->commands(), ElementsAre("qmp_capabilities"));
}

TEST_F(QmpChannelTest, WhereNobodyListensItIsUnavailable) {
  const absl::Status missing = QmpChannel::Connect(path_, Long()).status();
  EXPECT_TRUE(absl::IsUnavailable(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr(path_));
  Open().reset();
  qemu_.reset();
  EXPECT_TRUE(absl::IsUnavailable(QmpChannel::Connect(path_, Long()).status())) << "refused";
  EXPECT_TRUE(
      absl::IsUnavailable(QmpChannel::Connect(path_ + std::string(200, 'x'), Long()).status()));
}

TEST_F(QmpChannelTest, SomebodyWhoSpeaksOtherwiseIsNotTheProtocol) {
  const absl::Status other = ConnectTo("220 ready\r\n");
  EXPECT_TRUE(absl::IsInvalidArgument(other));
  EXPECT_THAT(std::string(other.message()), HasSubstr("220 ready"));
}

TEST_F(QmpChannelTest, ARefusedNegotiationIsAnError) {
  qemu_ = std::make_unique<FakeQemu>(path_);
  qemu_->On("qmp_capabilities",
            [](const Json& command, int) { return FakeQemu::Error(command, "no"); });
  EXPECT_TRUE(absl::IsInternal(QmpChannel::Connect(path_, Long()).status()));
  qemu_->On("qmp_capabilities", [this](const Json&, int) {
    qemu_->HangUp();
    return "";
  });
  EXPECT_TRUE(absl::IsUnavailable(QmpChannel::Connect(path_, Long()).status()));
}

TEST_F(QmpChannelTest, ASecondClientIsNotServedBeforeTheFirstHasGone) {
  auto first = Open();
  EXPECT_TRUE(absl::IsDeadlineExceeded(QmpChannel::Connect(path_, None()).status()));
  first.reset();
  EXPECT_TRUE(QmpChannel::Connect(path_, Long()).ok());
}

TEST_F(QmpChannelTest, AFullQueueIsNotWaitedForBeyondTheLimit) {
  // Nobody accepts here.
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::copy(path_.begin(), path_.end(), address.sun_path);
  const auto* const name = reinterpret_cast<const sockaddr*>(&address);
  ASSERT_EQ(bind(listener.get(), name, sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  std::vector<UniqueFd> others;
  do {
    others.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  } while (connect(others.back().get(), name, sizeof(address)) == 0);
  const absl::Status full = QmpChannel::Connect(path_, None()).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("connect to QEMU"));
}

TEST_F(QmpChannelTest, ACallGivesItsAnswer) {
  const auto channel = Open();
  EXPECT_EQ(*channel->RunState(Long()), "running");
  qemu_->On("add-fd", [](const Json& command, int fd) {
    EXPECT_EQ(fd, -1);
    return FakeQemu::Return(command, command["arguments"].dump());
  });
  EXPECT_THAT(*channel->Call("add-fd", R"({"fdset-id":3})", Long()),
              HasSubstr(R"("return": {"fdset-id":3})"));
}

TEST_F(QmpChannelTest, ARefusalIsQuotedAndTheChannelGoesOn) {
  const auto channel = Open();
  const absl::Status refused = channel->Call("jump", "", Long()).status();
  EXPECT_TRUE(absl::IsInternal(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("QEMU refuses jump"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("The command jump has not been found"));
  EXPECT_TRUE(channel->Call("query-status", "", Long()).ok());
}

TEST_F(QmpChannelTest, EventsAreLeftOut) {
  const auto channel = Open();
  qemu_->On("stop", [](const Json& command, int) {
    return absl::StrCat("{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\r\n",
                        FakeQemu::Return(command), "{\"event\": \"RTC_CHANGE\"}\r\n");
  });
  EXPECT_TRUE(channel->Call("stop", "", Long()).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(channel->Wait(None()).status()));
  EXPECT_TRUE(channel->Call("stop", "", Long()).ok());
}

TEST_F(QmpChannelTest, AnswersOfPipelinedCommandsAreToldApart) {
  const auto channel = Open();
  Json first;
  qemu_->On("stop", [&first](const Json& command, int) {
    first = command;
    return "";
  });
  qemu_->On("save", [&first](const Json& command, int) {
    return FakeQemu::Error(command, "disk full") + FakeQemu::Return(first);
  });
  ASSERT_TRUE(channel
                  ->Send("{\"execute\":\"stop\",\"id\":7}\r\n"
                         "{\"execute\":\"save\",\"id\":8}\r\n")
                  .ok());
  const QmpChannel::Answer save = *channel->Wait(Long());
  EXPECT_EQ(save.id, 8u);
  EXPECT_FALSE(save.ok);
  EXPECT_THAT(std::string(save.text), HasSubstr("disk full"));
  const QmpChannel::Answer stop = *channel->Wait(Long());
  EXPECT_EQ(stop.id, 7u);
  EXPECT_TRUE(stop.ok);
  EXPECT_THAT(qemu_->commands(), ElementsAre("qmp_capabilities", "stop", "save"));
}

TEST_F(QmpChannelTest, ACallIsNotAnsweredByWhatCameTooLateForAnother) {
  const auto channel = Open();
  Json late;
  qemu_->On("stop", [&late](const Json& command, int) {
    late = command;
    return "";
  });
  EXPECT_TRUE(absl::IsDeadlineExceeded(channel->Call("stop", "", None()).status()));
  qemu_->On("cont", [&late](const Json& command, int) {
    return FakeQemu::Error(late, "late") + FakeQemu::Return(command, "\"mine\"");
  });
  EXPECT_THAT(*channel->Call("cont", "", Long()), HasSubstr("mine"));
}

TEST_F(QmpChannelTest, NextTakesPiecesAndAllocatesNothing) {
  const auto channel = Open();
  EXPECT_EQ(channel->Next()->has_value(), false);
  pollfd ready = {channel->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&ready, 1, 0), 0);
  qemu_->Say("{\"event\": \"STOP\"}\r\n{\"return\"");
  EXPECT_EQ(poll(&ready, 1, 0), 1);
  const size_t before = AllocationCount();
  EXPECT_EQ(channel->Next()->has_value(), false);
  qemu_->Say(": {}, \"id\": 5}\r\n{\"error\": {}, \"id\": 6}\r\n");
  EXPECT_EQ((**channel->Next()).id, 5u);
  EXPECT_EQ((**channel->Next()).id, 6u);
  EXPECT_EQ(channel->Next()->has_value(), false);
  EXPECT_EQ(AllocationCount(), before);
}

TEST_F(QmpChannelTest, ALineMayFillTheBuffer) {
  const auto channel = Open();
  const std::string head = R"({"id": 5, "return": ")";
  const std::string tail = "\"}\r\n";
  const size_t rest = QmpChannel::kMaxLineBytes - head.size() - tail.size();
  qemu_->Say(head + std::string(rest, 'x') + tail);
  const absl::StatusOr<std::optional<QmpChannel::Answer>> longest = channel->Next();
  ASSERT_TRUE(longest.ok() && longest->has_value());
  EXPECT_EQ((*longest)->text.size(), QmpChannel::kMaxLineBytes - 2);

  qemu_->Say("{\"return\": {}, \"id\": 6}\r\n" + head + std::string(rest + 1, 'x') + tail);
  EXPECT_EQ((**channel->Next()).id, 6u);
  const absl::Status too_long = channel->Next().status();
  EXPECT_TRUE(absl::IsInvalidArgument(too_long));
  EXPECT_LT(too_long.message().size(), 300u);
  ExpectGone(*channel, too_long);
}

TEST_F(QmpChannelTest, AStrangeLineIsTheEnd) {
  const auto channel = Open();
  qemu_->Say("{\"error\": {\"desc\": \"JSON parse error\"}}\r\n{\"return\": {}, \"id\": 6}\r\n");
  const absl::Status strange = channel->Next().status();
  EXPECT_TRUE(absl::IsInvalidArgument(strange));
  EXPECT_THAT(std::string(strange.message()), HasSubstr("JSON parse error"));
  ExpectGone(*channel, strange);
}

TEST_F(QmpChannelTest, WhatWasSaidBeforeAHangUpIsHeard) {
  const auto channel = Open();
  qemu_->Say("{\"return\": {}, \"id\": 5}\r\n{\"return\": {}");
  qemu_->HangUp();
  EXPECT_EQ(channel->Wait(Long())->id, 5u);
  const absl::Status gone = channel->Wait(Long()).status();
  EXPECT_TRUE(absl::IsUnavailable(gone));
  ExpectGone(*channel, gone);
  EXPECT_TRUE(QmpChannel::Connect(path_, Long()).ok()) << "another one";
}

TEST_F(QmpChannelTest, ADescriptorGoesAlong) {
  const auto channel = Open();
  const std::string file = folder_ / "file";
  const UniqueFd mine(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_TRUE(mine.valid());
  qemu_->On("add-fd", [&mine](const Json& command, int fd) {
    EXPECT_NE(fd, mine.get());
    EXPECT_EQ(write(fd, "state", 5), 5);
    return FakeQemu::Return(command, R"({"fd": 25, "fdset-id": 0})");
  });
  EXPECT_TRUE(channel->Call("add-fd", "", Long(), mine.get()).ok());
  char text[8] = {};
  EXPECT_EQ(pread(mine.get(), text, sizeof(text), 0), 5);
  EXPECT_STREQ(text, "state");
  EXPECT_TRUE(channel->Send("{\"execute\":\"add-fd\",\"id\":7}\r\n", mine.get()).ok());
  EXPECT_EQ(channel->Wait(Long())->id, 7u);
}

TEST_F(QmpChannelTest, WhoDoesNotReadIsGivenUp) {
  const auto channel = Open();
  std::promise<void> end;
  qemu_->On("stop", [ended = end.get_future().share()](const Json&, int) {
    ended.wait();
    return "";
  });
  ASSERT_TRUE(channel->Send("{\"execute\":\"stop\",\"id\":1}\r\n").ok());
  qemu_->WaitForCommand("stop");
  const std::string command =
      absl::StrCat("{\"execute\":\"cont\",\"id\":2}", std::string(1000, ' '), "\r\n");
  absl::Status sent;
  while (sent.ok()) sent = channel->Send(command);
  EXPECT_TRUE(absl::IsUnavailable(sent));
  EXPECT_THAT(std::string(sent.message()), HasSubstr("does not read"));
  ExpectGone(*channel, sent);
  end.set_value();
}

TEST_F(QmpChannelTest, SendingToOneThatHasGoneIsAnError) {
  const auto channel = Open();
  qemu_.reset();
  const absl::Status gone = channel->Send("{\"execute\":\"stop\",\"id\":1}\r\n");
  EXPECT_TRUE(absl::IsUnavailable(gone));
  ExpectGone(*channel, gone);
}

}  // namespace
}  // namespace haven
