// SPDX-License-Identifier: Apache-2.0
#include "xen/output/netlink_channel.h"

#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/manual_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/output/netlink_message.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kTimeoutNs = 100 * kNsPerMs;

// Says what the test has put there; remembers what it is sent.
struct Script {
  struct Step {
    NetlinkBytes bytes;
    int error = 0;
  };
  std::deque<Step> steps;
  std::vector<NetlinkBytes> sent;
  int send_error = 0;
};

class ScriptedSocket final : public NetlinkSocket {
 public:
  ScriptedSocket(Script& script, ManualClock& clock) : script_(script), clock_(clock) {}

  int Send(std::span<const std::byte> datagram) override {
    script_.sent.emplace_back(datagram.begin(), datagram.end());
    return script_.send_error;
  }

  NetlinkReceived Receive(std::span<std::byte> buffer, int64_t deadline_ns) override {
    if (script_.steps.empty()) {
      clock_.AdvanceNs(deadline_ns - clock_.NowNs());
      return {.bytes = 0, .error = EAGAIN};
    }
    const Script::Step step = script_.steps.front();
    script_.steps.pop_front();
    std::copy(step.bytes.begin(), step.bytes.end(), buffer.begin());
    return {.bytes = step.bytes.size(), .error = step.error};
  }

  uint32_t port() const override { return 1; }

 private:
  Script& script_;
  ManualClock& clock_;
};

class NetlinkChannelTest : public testing::Test {
 protected:
  static NetlinkBytes Request(int flags = NLM_F_ACK) {
    return NetlinkMessage(RTM_GETLINK, flags, ifinfomsg{}).Take();
  }

  static NetlinkBytes Numbered(NetlinkBytes bytes, uint32_t sequence, uint16_t flags = 0) {
    auto* header = reinterpret_cast<nlmsghdr*>(bytes.data());
    header->nlmsg_seq = sequence;
    header->nlmsg_flags = static_cast<uint16_t>(header->nlmsg_flags | flags);
    return bytes;
  }

  static NetlinkBytes Ack(uint32_t sequence, int error = 0, const std::string& text = "") {
    nlmsgerr answer = {};
    answer.error = -error;
    NetlinkMessage message(NLMSG_ERROR, text.empty() ? 0 : NLM_F_ACK_TLVS, answer);
    if (!text.empty()) message.PutString(NLMSGERR_ATTR_MSG, text);
    return Numbered(message.Take(), sequence);
  }

  static NetlinkBytes Link(uint32_t sequence, uint16_t flags = 0) {
    return Numbered(NetlinkMessage(RTM_NEWLINK, 0, ifinfomsg{}).Take(), sequence, flags);
  }

  static NetlinkBytes Done(uint32_t sequence, int32_t error = 0) {
    return Numbered(NetlinkMessage(NLMSG_DONE, 0, -error).Take(), sequence);
  }

  void Say(NetlinkBytes bytes) { script_.steps.push_back({std::move(bytes), 0}); }
  void Fail(int error) { script_.steps.push_back({{}, error}); }

  ManualClock clock_;
  Script script_;
  NetlinkChannel channel_{std::make_unique<ScriptedSocket>(script_, clock_), clock_, kTimeoutNs};
};

TEST_F(NetlinkChannelTest, AnAcknowledgementIsSuccess) {
  Say(Ack(1));
  NetlinkBytes request = Request();
  EXPECT_EQ(channel_.Transact(request), 0);
  EXPECT_EQ(reinterpret_cast<const nlmsghdr*>(script_.sent[0].data())->nlmsg_seq, 1u);
  EXPECT_EQ(channel_.transactions(), 1u);
}

TEST_F(NetlinkChannelTest, AnErrorKeepsTheKernelsWords) {
  Say(Ack(1, ENOENT, "Specified qdisc kind is unknown"));
  const absl::Status status = channel_.Command(Request(), "plug of x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("plug of x: No such file"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("kind is unknown"));
  Say(Ack(2, EBUSY));
  EXPECT_THAT(std::string(channel_.Command(Request(), "next").message()),
              testing::Not(HasSubstr("kind is unknown")));
}

TEST_F(NetlinkChannelTest, EveryErrorHasItsCode) {
  const std::vector<std::pair<int, absl::StatusCode>> codes = {
      {ENODEV, absl::StatusCode::kNotFound},
      {EEXIST, absl::StatusCode::kAlreadyExists},
      {EPERM, absl::StatusCode::kPermissionDenied},
      {EOPNOTSUPP, absl::StatusCode::kUnimplemented},
      {EINVAL, absl::StatusCode::kFailedPrecondition}};
  uint32_t sequence = 0;
  for (const auto& [error, code] : codes) {
    Say(Ack(++sequence, error));
    EXPECT_EQ(channel_.Command(Request(), "it").code(), code) << error;
  }
}

TEST_F(NetlinkChannelTest, SilenceIsUnknownAndALateAnswerIsNobodys) {
  const absl::Status status = channel_.Command(Request(), "it");
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown"));
  EXPECT_EQ(clock_.NowNs(), kTimeoutNs);
  Say(Ack(1));
  Say(Ack(2, EINVAL));
  NetlinkBytes request = Request();
  EXPECT_EQ(channel_.Transact(request), EINVAL);
}

TEST_F(NetlinkChannelTest, LostAnswersAreUnknown) {
  NetlinkBytes request = Request();
  for (const int error : {ENOBUFS, EMSGSIZE}) {
    Fail(error);
    EXPECT_EQ(channel_.Transact(request), ETIMEDOUT);
  }
  Fail(ECONNRESET);
  EXPECT_EQ(channel_.Transact(request), ECONNRESET);
  script_.send_error = ENOMEM;
  EXPECT_EQ(channel_.Transact(request), ENOMEM);
}

TEST_F(NetlinkChannelTest, OfABatchTheFirstErrorCountsAndTheLastAnswerEnds) {
  NetlinkBytes batch = Request(0);
  const NetlinkBytes last = Request();
  batch.insert(batch.end(), last.begin(), last.end());
  Say(Ack(1, EBUSY));
  Say(Ack(2));
  EXPECT_EQ(channel_.Transact(batch), EBUSY);
  Say(Ack(4));
  EXPECT_EQ(channel_.Transact(batch), 0);
}

TEST_F(NetlinkChannelTest, DatagramsThatMakeNoSenseAreNotAnswers) {
  Say({});
  Say(NetlinkBytes(7));
  NetlinkBytes liar = Ack(1);
  reinterpret_cast<nlmsghdr*>(liar.data())->nlmsg_len = 4000;
  Say(liar);
  NetlinkBytes empty(sizeof(nlmsghdr));
  reinterpret_cast<nlmsghdr*>(empty.data())->nlmsg_len = 0;
  Say(empty);
  Say(Link(1));
  Say(Ack(1));
  NetlinkBytes request = Request();
  EXPECT_EQ(channel_.Transact(request), 0);
  // An error message without its error is an answer, and not a good one.
  NetlinkBytes stub(sizeof(nlmsghdr));
  auto* header = reinterpret_cast<nlmsghdr*>(stub.data());
  header->nlmsg_len = sizeof(nlmsghdr);
  header->nlmsg_type = NLMSG_ERROR;
  header->nlmsg_seq = 2;
  Say(stub);
  EXPECT_EQ(channel_.Transact(request), EBADMSG);
}

TEST_F(NetlinkChannelTest, AnswersAreShown) {
  std::vector<int> types;
  const auto note = [&](nlmsghdr& message) { types.push_back(message.nlmsg_type); };
  Say(Link(9));
  Say(Link(1));
  Say(Ack(1));
  EXPECT_TRUE(channel_.Get(Request(), note, "it").ok());
  EXPECT_THAT(types, ElementsAre(RTM_NEWLINK));
}

TEST_F(NetlinkChannelTest, AListThatChangedMeanwhileIsAskedForAgain) {
  int shown = 0;
  const auto note = [&](nlmsghdr&) { ++shown; };
  Say(Link(1, NLM_F_DUMP_INTR));
  Say(Done(1));
  Say(Link(2));
  Say(Link(2));
  Say(Done(2));
  EXPECT_TRUE(channel_.Dump(Request(NLM_F_DUMP), note, "list").ok());
  EXPECT_EQ(shown, 2);
  for (uint32_t sequence = 3; sequence < 20; ++sequence) {
    Say(Link(sequence, NLM_F_DUMP_INTR));
    Say(Done(sequence));
  }
  EXPECT_EQ(channel_.Dump(Request(NLM_F_DUMP), note, "list").code(), absl::StatusCode::kAborted);
}

// An entry that fits no answer, for example.
TEST_F(NetlinkChannelTest, AListThatTheKernelBreaksOffIsNotTakenForWhole) {
  int shown = 0;
  const auto note = [&](nlmsghdr&) { ++shown; };
  Say(Link(1));
  Say(Done(1, EMSGSIZE));
  const absl::Status cut = channel_.Dump(Request(NLM_F_DUMP), note, "list");
  EXPECT_EQ(cut.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(cut.message()), HasSubstr("Message too long"));
  EXPECT_EQ(shown, 0);
}

TEST_F(NetlinkChannelTest, AListEndsWithErrorsToo) {
  const auto note = [](nlmsghdr&) {};
  Say(Ack(1, EINVAL));
  EXPECT_EQ(channel_.Dump(Request(NLM_F_DUMP), note, "list").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(channel_.Dump(Request(NLM_F_DUMP), note, "list").code(),
            absl::StatusCode::kDeadlineExceeded);
  Fail(ENOBUFS);
  EXPECT_FALSE(channel_.Dump(Request(NLM_F_DUMP), note, "list").ok());
  Say(Ack(4));
  EXPECT_FALSE(channel_.Dump(Request(NLM_F_DUMP), note, "list").ok()) << "a list needs its end";
}

}  // namespace
}  // namespace haven
