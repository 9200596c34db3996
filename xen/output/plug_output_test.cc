// SPDX-License-Identifier: Apache-2.0
#include "xen/output/plug_output.h"

#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/allocations_testing.h"
#include "engine/base/manual_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/output/fake_kernel_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

class PlugOutputTest : public testing::Test {
 protected:
  PlugOutputTest() {
    spec_.group = "web";
    spec_.devices = {"vif7.0", "vif7.1"};
    spec_.domains = {7};
    for (const std::string& nic : spec_.devices) kernel_.AddLink(nic);
    for (size_t i = 0; i < PlugDevices::kQueues; ++i) ifbs_.push_back(PlugDeviceName("web", i));
  }

  std::unique_ptr<PlugOutput> Attach() {
    auto output = PlugOutput::Attach(spec_, kernel_.Requests(), kernel_.Events(), clock_);
    EXPECT_TRUE(output.ok()) << output.status();
    return output.ok() ? *std::move(output) : nullptr;
  }

  std::unique_ptr<PlugOutput> Holding() {
    std::unique_ptr<PlugOutput> output = Attach();
    EXPECT_TRUE(output->Hold().ok());
    return output;
  }

  // How many of some packets leave at once.
  int Send(int count) {
    int left = 0;
    for (int i = 0; i < count; ++i) left += kernel_.Packet(spec_.devices[i % 2]) ? 1 : 0;
    return left;
  }

  uint64_t Passed() {
    uint64_t passed = 0;
    for (const std::string& ifb : ifbs_) {
      if (kernel_.link(ifb) != nullptr) passed += kernel_.link(ifb)->passed;
    }
    return passed;
  }

  ManualClock clock_{kNsPerSecond};
  FakeKernel kernel_{clock_};
  PlugSpec spec_;
  std::vector<std::string> ifbs_;
};

TEST_F(PlugOutputTest, AttachChangesNothing) {
  const auto output = Attach();
  EXPECT_EQ(Send(4), 4);
  EXPECT_EQ(kernel_.link(ifbs_[0]), nullptr);
  EXPECT_EQ(output->Barrier().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(output->ReleaseOne().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(output->OpenAll().ok());
  EXPECT_TRUE(output->Remove().ok());
  EXPECT_TRUE(output->Health().ok());
  EXPECT_EQ(output->stats().held_packets, 0u);
}

TEST_F(PlugOutputTest, PrepareMakesEverythingAndHoldsNothing) {
  const auto output = Attach();
  ASSERT_TRUE(output->Prepare().ok());
  EXPECT_EQ(Send(4), 4);
  EXPECT_EQ(Passed(), 4u) << "through the plugs";
  EXPECT_TRUE(output->Health().ok());
  EXPECT_FALSE(output->Barrier().ok());
  const int filters = kernel_.requests[RTM_NEWTFILTER];
  EXPECT_EQ(filters, 2);
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_EQ(kernel_.requests[RTM_NEWTFILTER], filters);
  EXPECT_EQ(Send(3), 0);
  ASSERT_TRUE(output->Barrier().ok());
  EXPECT_EQ(Passed(), 4u);
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(Passed(), 7u);
  ASSERT_TRUE(output->OpenAll().ok());
  ASSERT_TRUE(output->Remove().ok());
  EXPECT_EQ(kernel_.link(ifbs_[0]), nullptr);
}

TEST_F(PlugOutputTest, WhatIsPreparedIsOpenForASuccessorToo) {
  ASSERT_TRUE(Attach()->Prepare().ok());
  EXPECT_EQ(Send(2), 2);
  const auto output = Attach();
  ASSERT_TRUE(output->Prepare().ok());
  EXPECT_EQ(Send(2), 2);
  ASSERT_TRUE(output->OpenAll().ok());
  ASSERT_TRUE(output->Remove().ok());
  EXPECT_EQ(kernel_.link(ifbs_[0]), nullptr);
}

TEST_F(PlugOutputTest, PrepareLeavesWhatIsHeldAlone) {
  auto output = Holding();
  ASSERT_TRUE(output->Prepare().ok());
  EXPECT_EQ(Send(2), 0);
  output = Attach();
  ASSERT_TRUE(output->Prepare().ok());
  EXPECT_EQ(Send(2), 0);
  EXPECT_EQ(Passed(), 0u);
}

TEST_F(PlugOutputTest, AFailedPreparationHoldsNothingAndIsMadeGoodByHold) {
  for (const int type : {int{RTM_NEWLINK}, int{RTM_NEWQDISC}, int{RTM_NEWTFILTER}}) {
    kernel_.fails[type] = EINTR;
    const auto output = Attach();
    EXPECT_FALSE(output->Prepare().ok()) << type;
    EXPECT_EQ(Send(4), 4) << type;
    kernel_.fails.clear();
    ASSERT_TRUE(output->Hold().ok()) << type;
    EXPECT_EQ(Send(4), 0) << type;
    ASSERT_TRUE(output->OpenAll().ok()) << type;
    ASSERT_TRUE(output->Remove().ok()) << type;
  }
}

TEST_F(PlugOutputTest, SpecsThatNameNothingAreRefused) {
  for (const std::string& group : {std::string(), std::string(300, 'x')}) {
    PlugSpec spec = spec_;
    spec.group = group;
    EXPECT_EQ(
        PlugOutput::Attach(spec, kernel_.Requests(), kernel_.Events(), clock_).status().code(),
        absl::StatusCode::kInvalidArgument);
  }
  spec_.devices.clear();
  EXPECT_EQ(PlugOutput::Attach(spec_, kernel_.Requests(), kernel_.Events(), clock_).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PlugOutputTest, AnEpochLeavesWithItsRelease) {
  const auto output = Holding();
  uint64_t expected = 0;
  uint64_t finished = 0;
  for (uint64_t epoch = 0; epoch < 20; ++epoch) {
    const uint64_t running = epoch * 5 % 7;
    EXPECT_EQ(Send(static_cast<int>(running)), 0);
    ASSERT_TRUE(output->ReleaseOne().ok());
    expected += finished;
    EXPECT_EQ(Passed(), expected) << "epoch " << epoch;
    ASSERT_TRUE(output->Barrier().ok());
    EXPECT_EQ(Passed(), expected) << "a barrier releases nothing";
    finished = running;
  }
  EXPECT_TRUE(output->Hold().ok()) << "idempotent";
  EXPECT_EQ(output->stats().held_packets, finished);
  EXPECT_EQ(output->stats().released_packets, expected);
}

TEST_F(PlugOutputTest, ASecondBarrierIsRefusedWithoutEffect) {
  const auto output = Holding();
  Send(3);
  ASSERT_TRUE(output->Barrier().ok());
  Send(2);
  EXPECT_EQ(output->Barrier().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(Passed(), 3u);
  EXPECT_TRUE(output->Health().ok());
}

// Lets a buffer be set up, and from then on acknowledges whatever comes, without allocating.
class AckSocket final : public NetlinkSocket {
 public:
  explicit AckSocket(std::unique_ptr<NetlinkSocket> kernel) : kernel_(std::move(kernel)) {}

  int Send(std::span<const std::byte> datagram) override {
    if (!acknowledging_) return kernel_->Send(datagram);
    nlmsghdr header = {};
    for (size_t at = 0; at < datagram.size(); at += NLMSG_ALIGN(header.nlmsg_len)) {
      std::memcpy(&header, datagram.data() + at, sizeof(header));
    }
    last_sequence_ = header.nlmsg_seq;
    return 0;
  }

  NetlinkReceived Receive(std::span<std::byte> buffer, int64_t deadline_ns) override {
    if (!acknowledging_) return kernel_->Receive(buffer, deadline_ns);
    struct {
      nlmsghdr header = {};
      nlmsgerr answer = {};
    } ack;
    ack.header.nlmsg_len = sizeof(ack);
    ack.header.nlmsg_type = NLMSG_ERROR;
    ack.header.nlmsg_seq = last_sequence_;
    std::memcpy(buffer.data(), &ack, sizeof(ack));
    return {.bytes = sizeof(ack), .error = 0};
  }

  uint32_t port() const override { return kernel_->port(); }
  void Acknowledge() { acknowledging_ = true; }

 private:
  const std::unique_ptr<NetlinkSocket> kernel_;
  bool acknowledging_ = false;
  uint32_t last_sequence_ = 0;
};

TEST_F(PlugOutputTest, TheEpochPathAllocatesNothing) {
  auto socket = std::make_unique<AckSocket>(kernel_.Requests());
  AckSocket& requests = *socket;
  const auto output = *PlugOutput::Attach(spec_, std::move(socket), kernel_.Events(), clock_);
  ASSERT_TRUE(output->Hold().ok());
  requests.Acknowledge();
  const uint64_t requests_before = output->counters().requests;
  const size_t before = AllocationCount();
  bool good = true;
  for (int i = 0; i < 100; ++i) {
    good &= output->Barrier().ok();
    good &= output->ReleaseOne().ok();
    good &= output->Health().ok();
  }
  EXPECT_EQ(AllocationCount() - before, 0u);
  EXPECT_TRUE(good);
  // The first release has nothing before it to wait for.
  EXPECT_EQ(output->counters().requests - requests_before, 299u);
}

TEST_F(PlugOutputTest, ARequestWithoutAnswerBreaksTheBufferUntilItIsRebuilt) {
  for (const int type : {int{RTM_NEWACTION}, int{RTM_NEWQDISC}, int{RTM_GETSTATS}}) {
    const auto output = Holding();
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(output->Barrier().ok());
      ASSERT_TRUE(output->ReleaseOne().ok());
    }
    if (type != RTM_NEWACTION) {
      ASSERT_TRUE(output->Barrier().ok());
    }
    // The answers to both requests of the batch.
    kernel_.unanswered[type] = 2;
    const absl::Status status = type == RTM_NEWACTION ? output->Barrier() : output->ReleaseOne();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << type;
    kernel_.unanswered.clear();
    EXPECT_FALSE(output->Health().ok());
    EXPECT_FALSE(output->Barrier().ok());
    EXPECT_FALSE(output->ReleaseOne().ok());
    ASSERT_TRUE(output->Rebuild().ok());
    EXPECT_TRUE(output->Health().ok());
    const uint64_t passed = Passed();
    EXPECT_EQ(Send(4), 0);
    ASSERT_TRUE(output->Barrier().ok());
    EXPECT_EQ(Passed(), passed);
    ASSERT_TRUE(output->ReleaseOne().ok());
    EXPECT_EQ(Passed(), passed + 4);
    ASSERT_TRUE(output->OpenAll().ok());
    ASSERT_TRUE(output->Remove().ok());
  }
}

TEST_F(PlugOutputTest, ARefusedRequestBreaksTheBuffer) {
  const auto output = Holding();
  kernel_.fails[RTM_NEWACTION] = ENODEV;
  EXPECT_EQ(output->Barrier().code(), absl::StatusCode::kNotFound);
  kernel_.fails.clear();
  EXPECT_EQ(output->Barrier().code(), absl::StatusCode::kNotFound) << "until it is rebuilt";
  ASSERT_TRUE(output->Rebuild().ok());
  ASSERT_TRUE(output->Barrier().ok());
}

TEST_F(PlugOutputTest, AReleaseWaitsForTheOneBeforeButNotForever) {
  const auto output = Holding();
  Send(2);
  ASSERT_TRUE(output->Barrier().ok());
  kernel_.stuck = true;
  ASSERT_TRUE(output->ReleaseOne().ok());
  Send(2);
  ASSERT_TRUE(output->Barrier().ok());
  kernel_.answer_ns = 5 * kNsPerMs;
  const int64_t begun_ns = clock_.NowNs();
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_GE(clock_.NowNs() - begun_ns, spec_.order_ns);
  EXPECT_LT(clock_.NowNs() - begun_ns, 3 * spec_.order_ns);
  EXPECT_EQ(output->counters().overtaken, 1u);
  ASSERT_TRUE(output->Barrier().ok());
  kernel_.stuck = false;
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(output->counters().overtaken, 1u);
  EXPECT_EQ(output->stats().held_packets, 2u) << "the overtaken ones wait for their turn";
}

TEST_F(PlugOutputTest, OpeningDoesNotWaitForeverForWhatDoesNotLeave) {
  const auto output = Holding();
  Send(2);
  kernel_.stuck = true;
  kernel_.answer_ns = 100 * kNsPerMs;
  const absl::Status status = output->OpenAll();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 packets"));
  kernel_.stuck = false;
  EXPECT_TRUE(output->OpenAll().ok());
  EXPECT_EQ(Passed(), 2u);
}

TEST_F(PlugOutputTest, HeldTimeIsThatOfTheOldestPacket) {
  const auto output = Holding();
  clock_.AdvanceNs(20 * kNsPerMs);
  ASSERT_TRUE(output->Barrier().ok());
  clock_.AdvanceNs(5 * kNsPerMs);
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(output->counters().last_held_ns, 25 * kNsPerMs);
  clock_.AdvanceNs(kNsPerMs);
  ASSERT_TRUE(output->Barrier().ok());
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(output->counters().last_held_ns, 6 * kNsPerMs);
  EXPECT_EQ(output->counters().longest_held_ns, 25 * kNsPerMs);
  EXPECT_EQ(output->stats().last_held_ns, 6 * kNsPerMs);
  EXPECT_EQ(output->stats().longest_held_ns, 25 * kNsPerMs);
}

TEST_F(PlugOutputTest, OpenPassesUntilTheNextHold) {
  const auto output = Holding();
  Send(3);
  ASSERT_TRUE(output->Barrier().ok());
  Send(2);
  ASSERT_TRUE(output->OpenAll().ok());
  EXPECT_EQ(Passed(), 5u);
  EXPECT_EQ(Send(2), 2);
  EXPECT_FALSE(output->Barrier().ok());
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_EQ(Send(2), 0);
  EXPECT_EQ(output->Remove().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(output->OpenAll().ok());
  ASSERT_TRUE(output->Remove().ok());
  EXPECT_EQ(kernel_.link(ifbs_[0]), nullptr);
  EXPECT_EQ(kernel_.link("vif7.0")->ingress, "");
  EXPECT_EQ(Send(2), 2);
}

TEST_F(PlugOutputTest, DiscardLosesWhatIsHeldAndWhatComes) {
  const auto output = Holding();
  Send(3);
  ASSERT_TRUE(output->Discard().ok());
  EXPECT_EQ(Passed(), 0u);
  EXPECT_EQ(Send(3), 0) << "the filters drop";
  ASSERT_TRUE(output->Discard().ok()) << "again";
  ASSERT_TRUE(Attach()->OpenAll().ok());
  EXPECT_EQ(Send(3), 3);
}

TEST_F(PlugOutputTest, ASuccessorTakesOverWithoutALeak) {
  auto output = Holding();
  Send(2);
  ASSERT_TRUE(output->Barrier().ok());
  Send(3);
  output.reset();
  EXPECT_EQ(Send(1), 0);
  output = Attach();
  EXPECT_FALSE(output->Barrier().ok());
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_EQ(Send(1), 0);
  EXPECT_EQ(Passed(), 0u);
  EXPECT_EQ(output->stats().held_packets, 7u);
  ASSERT_TRUE(output->Barrier().ok());
  EXPECT_EQ(Send(4), 0);
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(Passed(), 7u) << "what both have held, and nothing of the running epoch";
  ASSERT_TRUE(output->Barrier().ok());
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(Passed(), 11u);
}

TEST_F(PlugOutputTest, ASuccessorFinishesWhatADeathInTheMiddleOfSetUpHasLeft) {
  for (const int type : {int{RTM_NEWQDISC}, int{RTM_NEWTFILTER}}) {
    kernel_.fails[type] = EINTR;
    EXPECT_FALSE(Attach()->Hold().ok());
    kernel_.fails.clear();
  }
  kernel_.link(ifbs_[0])->alias = "";
  Holding();
  EXPECT_EQ(Send(4), 0);
}

TEST_F(PlugOutputTest, ATakenOverBufferWithoutItsPlugHasLeaked) {
  Holding().reset();
  kernel_.link(ifbs_[0])->root = "";
  const auto output = Attach();
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_THAT(std::string(output->Health().message()), HasSubstr("uncommitted"));
  EXPECT_EQ(Send(2), 0);
  ASSERT_TRUE(output->Rebuild().ok());
  EXPECT_TRUE(output->Health().ok());
}

TEST_F(PlugOutputTest, OpeningWhatIsBrokenGivesTheNicsBack) {
  const auto output = Holding();
  kernel_.RemoveLink(ifbs_[1]);
  ASSERT_TRUE(output->OpenAll().ok());
  EXPECT_EQ(Send(4), 4);
  EXPECT_TRUE(output->Remove().ok());
  EXPECT_EQ(kernel_.link(ifbs_[0]), nullptr);
}

TEST_F(PlugOutputTest, RebuildRepairsWhatOthersDid) {
  const auto output = Holding();
  const std::vector<std::function<void()>> damages = {
      [&] { kernel_.RemoveLink(ifbs_[0]); },
      [&] { kernel_.link(ifbs_[1])->root = "pfifo"; },
      [&] { kernel_.link(ifbs_[2])->up = false; },
      [&] { kernel_.link("vif7.1")->preference = 0; },
      [&] { kernel_.link("vif7.0")->ingress = "", kernel_.link("vif7.0")->preference = 0; },
      [&] { kernel_.redirections.begin()->second = kernel_.ifindex("vif7.1"); },
      [&] { kernel_.verdicts[kernel_.link("vif7.0")->drop] = TC_ACT_OK; },
      [&] {
        for (const std::string& ifb : ifbs_) kernel_.RemoveLink(ifb);
      },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    damages[i]();
    ASSERT_TRUE(output->Rebuild().ok()) << i;
    const uint64_t passed = Passed();
    EXPECT_EQ(Send(4), 0) << i;
    ASSERT_TRUE(output->Barrier().ok()) << i;
    EXPECT_EQ(Passed(), passed) << i;
    ASSERT_TRUE(output->ReleaseOne().ok()) << i;
    EXPECT_EQ(Passed(), passed + 4) << i;
  }
}

TEST_F(PlugOutputTest, RebuildFollowsTheNics) {
  const auto output = Holding();
  kernel_.AddLink("vif7.2");
  kernel_.AddLink("vif8.0");
  kernel_.RemoveLink("vif7.1");
  ASSERT_TRUE(output->Rebuild().ok());
  EXPECT_FALSE(kernel_.Packet("vif7.2"));
  EXPECT_TRUE(kernel_.Packet("vif8.0")) << "of another domain";
}

TEST_F(PlugOutputTest, WhatCanNotBeHeldIsRefused) {
  kernel_.link("vif7.0")->xdp = true;
  EXPECT_THAT(std::string(Attach()->Hold().message()), HasSubstr("XDP"));
  kernel_.link("vif7.0")->xdp = false;
  kernel_.link("vif7.0")->preference = 9;
  EXPECT_THAT(std::string(Attach()->Hold().message()), HasSubstr("preference 9"));
  kernel_.link("vif7.0")->preference = 0;
  kernel_.AddLink(ifbs_[0], "veth");
  const auto refused = PlugOutput::Attach(spec_, kernel_.Requests(), kernel_.Events(), clock_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(PlugOutputTest, ANicInAnotherBufferIsRefusedAndStaysThere) {
  const auto output = Holding();
  spec_.group = "other";
  const auto other = Attach();
  EXPECT_THAT(std::string(other->Hold().message()), HasSubstr("not of this group"));
  EXPECT_TRUE(other->OpenAll().ok());
  EXPECT_TRUE(other->Remove().ok());
  EXPECT_TRUE(other->Discard().ok());
  EXPECT_EQ(Send(4), 0) << "the first one still holds";
}

TEST_F(PlugOutputTest, WhatCanNotBeHeldAnyMoreCanStillBeOpened) {
  auto output = Holding();
  Send(3);
  kernel_.link("vif7.0")->xdp = true;
  EXPECT_FALSE(output->Rebuild().ok());
  output = Attach();
  ASSERT_TRUE(output->OpenAll().ok());
  EXPECT_EQ(Passed(), 3u);
  EXPECT_TRUE(output->Remove().ok());
}

TEST_F(PlugOutputTest, OpeningHalfwayIsNotHolding) {
  const auto output = Holding();
  Send(3);
  ASSERT_TRUE(output->Barrier().ok());
  Send(2);
  kernel_.unanswered[RTM_GETSTATS] = 2;
  EXPECT_EQ(output->OpenAll().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(output->Health().ok());
  EXPECT_FALSE(output->Barrier().ok());
  EXPECT_FALSE(output->ReleaseOne().ok());
  kernel_.unanswered.clear();
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_TRUE(output->Health().ok());
  const uint64_t passed = Passed();
  EXPECT_EQ(Send(4), 0);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(output->Barrier().ok());
    if (i == 0) {
      EXPECT_EQ(Passed(), passed);
    }
    ASSERT_TRUE(output->ReleaseOne().ok());
  }
  EXPECT_EQ(Passed(), 9u);
}

TEST_F(PlugOutputTest, ABufferWithoutNicsIsNotRebuilt) {
  const auto output = Holding();
  kernel_.RemoveLink("vif7.0");
  kernel_.RemoveLink("vif7.1");
  EXPECT_THAT(std::string(output->Rebuild().message()), HasSubstr("no NIC"));
  EXPECT_TRUE(output->Discard().ok());
}

TEST_F(PlugOutputTest, AKernelThatLacksAPartIsToldItsModule) {
  const std::vector<std::pair<int, std::string>> parts = {
      {RTM_NEWLINK, "modprobe -a ifb"},
      {RTM_NEWQDISC, "modprobe -a sch_plug"},
      {RTM_NEWTFILTER, "modprobe -a cls_matchall act_mirred act_gact"}};
  for (const auto& [type, remedy] : parts) {
    kernel_.fails[type] = type == RTM_NEWLINK ? EOPNOTSUPP : ENOENT;
    const absl::Status status = Attach()->Hold();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(remedy));
    kernel_.fails.clear();
  }
  kernel_.fails[RTM_NEWLINK] = EPERM;
  spec_.group = "fresh";
  EXPECT_EQ(Attach()->Hold().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(PlugOutputTest, ANicThatIsNotThereIsRefused) {
  spec_.devices.push_back("vif7.5");
  const absl::Status status = Attach()->Hold();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("vif7.5"));
}

TEST_F(PlugOutputTest, ANicThatIsNotNamedIsNotOverlooked) {
  kernel_.AddLink("vif7.2");
  EXPECT_THAT(std::string(Attach()->Hold().message()), HasSubstr("vif7.2"));
}

TEST_F(PlugOutputTest, AnOpenPlugThatSleepsIsWoken) {
  const auto output = Holding();
  ASSERT_TRUE(output->OpenAll().ok());
  kernel_.stuck = true;
  Send(2);
  kernel_.stuck = false;
  EXPECT_EQ(output->stats().held_packets, 2u);
  EXPECT_EQ(output->stats().held_packets, 0u);
  EXPECT_EQ(Passed(), 2u);
}

TEST_F(PlugOutputTest, CountsSurviveANewPlug) {
  const auto output = Holding();
  Send(5);
  ASSERT_TRUE(output->Barrier().ok());
  ASSERT_TRUE(output->ReleaseOne().ok());
  kernel_.link(ifbs_[0])->dropped = 2;
  EXPECT_EQ(output->stats().released_packets, 5u);
  kernel_.link(ifbs_[0])->root = "";
  ASSERT_TRUE(output->Rebuild().ok());
  EXPECT_EQ(output->stats().released_packets, 5u);
  EXPECT_EQ(output->stats().dropped_packets, 2u);
}

}  // namespace
}  // namespace haven
