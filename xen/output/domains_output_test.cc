// SPDX-License-Identifier: Apache-2.0
#include "xen/output/domains_output.h"

#include <linux/rtnetlink.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "engine/base/manual_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/output/fake_kernel_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

class DomainsOutputTest : public testing::Test {
 protected:
  DomainsOutputTest() {
    spec_.group = "web";
    spec_.domains = {7};
  }

  std::unique_ptr<DomainsOutput> Attach() {
    DomainsOutput::Sockets sockets;
    sockets.requests = [this] { return kernel_.Requests(); };
    sockets.events = [this](uint32_t) { return kernel_.Events(); };
    auto output = DomainsOutput::Attach(spec_, std::move(sockets), clock_);
    EXPECT_TRUE(output.ok()) << output.status();
    return output.ok() ? *std::move(output) : nullptr;
  }

  std::unique_ptr<DomainsOutput> Holding() {
    std::unique_ptr<DomainsOutput> output = Attach();
    EXPECT_TRUE(output->Hold().ok());
    return output;
  }

  // A NIC that the administrator has named (vifname=).
  void AddNamedNic(const std::string& name, const std::string& back_end) {
    kernel_.AddLink(name);
    kernel_.link(name)->back_end = back_end;
  }

  bool QueuesAreLeft() {
    bool left = false;
    for (size_t i = 0; i < PlugDevices::kQueues; ++i) {
      left = left || kernel_.link(PlugDeviceName("web", i)) != nullptr;
    }
    return left;
  }

  // One epoch with one packet: it leaves with the release, not before.
  void ExpectHeld(DomainsOutput& output, const std::string& nic) {
    const uint64_t released = output.stats().released_packets;
    EXPECT_FALSE(kernel_.Packet(nic));
    ASSERT_TRUE(output.Barrier().ok());
    EXPECT_EQ(output.stats().released_packets, released);
    ASSERT_TRUE(output.ReleaseOne().ok());
    EXPECT_EQ(output.stats().released_packets, released + 1);
  }

  ManualClock clock_{kNsPerSecond};
  FakeKernel kernel_{clock_};
  PlugSpec spec_;
};

TEST_F(DomainsOutputTest, HoldsNicsOfAnyName) {
  kernel_.AddLink("vif7.0");
  AddNamedNic("web-lan", "vif-7-1");
  AddNamedNic("db-lan", "vif-70-0");
  AddNamedNic("vif9.0", "vif-9-0");
  const auto output = Holding();
  ExpectHeld(*output, "vif7.0");
  ExpectHeld(*output, "web-lan");
  EXPECT_TRUE(kernel_.Packet("db-lan")) << "of another domain";
  EXPECT_TRUE(kernel_.Packet("vif9.0")) << "of another domain";
}

// Of an HVM guest: the card beside a NIC is called like it, and tells of no back end.
TEST_F(DomainsOutputTest, HoldsTheEmulatedCardOfANamedNic) {
  kernel_.AddLink("web-lan-emu");
  AddNamedNic("web-lan", "vif-7-0");
  kernel_.AddLink("db-lan-emu");
  AddNamedNic("db-lan", "vif-70-0");
  const auto output = Holding();
  ExpectHeld(*output, "web-lan-emu");
  ExpectHeld(*output, "web-lan");
  EXPECT_TRUE(kernel_.Packet("db-lan-emu")) << "of another domain";
}

TEST_F(DomainsOutputTest, ANicThatGetsItsNameLateIsHeld) {
  AddNamedNic("vif7.0", "vif-7-0");
  const auto output = Holding();
  kernel_.link("vif7.0")->name = "web-lan";
  ASSERT_TRUE(output->Rebuild().ok());
  ExpectHeld(*output, "web-lan");
}

TEST_F(DomainsOutputTest, PreparesTheNicsThatThereAre) {
  const auto output = Attach();
  ASSERT_TRUE(output->Prepare().ok());
  EXPECT_FALSE(QueuesAreLeft()) << "there is no NIC";
  kernel_.AddLink("vif7.0");
  ASSERT_TRUE(output->Prepare().ok());
  EXPECT_TRUE(QueuesAreLeft());
  EXPECT_TRUE(kernel_.Packet("vif7.0"));
  ASSERT_TRUE(output->Hold().ok());
  ExpectHeld(*output, "vif7.0");
  ASSERT_TRUE(output->Prepare().ok());
  ExpectHeld(*output, "vif7.0");
}

TEST_F(DomainsOutputTest, ADomainWithoutNicsHasNothingToHold) {
  const auto output = Holding();
  ASSERT_TRUE(output->Barrier().ok());
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_TRUE(output->Health().ok());
  EXPECT_EQ(output->stats().held_packets, 0u);
  ASSERT_TRUE(output->OpenAll().ok());
  ASSERT_TRUE(output->Remove().ok());
  EXPECT_FALSE(QueuesAreLeft());
}

TEST_F(DomainsOutputTest, TheFirstNicThatComesIsNoticedAndHeldWhenItIsRebuilt) {
  const auto output = Holding();
  clock_.AdvanceNs(30 * kNsPerMs);
  AddNamedNic("web-lan", "vif-7-0");
  const absl::Status health = output->Health();
  EXPECT_EQ(health.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(health.message()), HasSubstr("web-lan has come"));
  EXPECT_THAT(std::string(health.message()), HasSubstr("30 ms ago"));
  ASSERT_TRUE(output->Rebuild().ok());
  EXPECT_TRUE(output->Health().ok());
  ExpectHeld(*output, "web-lan");
}

TEST_F(DomainsOutputTest, TheLastNicThatGoesLeavesNothingToHold) {
  kernel_.AddLink("vif7.0");
  const auto output = Holding();
  ExpectHeld(*output, "vif7.0");
  kernel_.Packet("vif7.0");
  kernel_.RemoveLink("vif7.0");
  ASSERT_TRUE(output->Rebuild().ok());
  EXPECT_TRUE(output->Health().ok());
  EXPECT_FALSE(QueuesAreLeft());
  EXPECT_EQ(output->stats().held_packets, 0u);
  EXPECT_EQ(output->stats().released_packets, 1u) << "what was counted stays counted";
  ASSERT_TRUE(output->Barrier().ok());
  kernel_.AddLink("vif7.1");
  EXPECT_FALSE(output->Health().ok());
  ASSERT_TRUE(output->Rebuild().ok());
  ExpectHeld(*output, "vif7.1");
}

TEST_F(DomainsOutputTest, NicsThatComeAndGoWhileItIsOpenAreFollowed) {
  kernel_.AddLink("vif7.0");
  const auto output = Holding();
  ASSERT_TRUE(output->OpenAll().ok());
  kernel_.RemoveLink("vif7.0");
  kernel_.AddLink("vif7.1");
  kernel_.AddLink("vif7.2");
  ASSERT_TRUE(output->Hold().ok());
  ExpectHeld(*output, "vif7.1");
  ExpectHeld(*output, "vif7.2");
  ASSERT_TRUE(output->OpenAll().ok());
  kernel_.RemoveLink("vif7.1");
  kernel_.RemoveLink("vif7.2");
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_TRUE(output->Health().ok());
}

TEST_F(DomainsOutputTest, ASuccessorTakesOverWhatIsHeld) {
  kernel_.AddLink("vif7.0");
  Holding().reset();
  EXPECT_FALSE(kernel_.Packet("vif7.0"));
  const auto output = Attach();
  ASSERT_TRUE(output->Hold().ok());
  EXPECT_EQ(output->stats().held_packets, 1u);
  ASSERT_TRUE(output->Barrier().ok());
  ASSERT_TRUE(output->ReleaseOne().ok());
  EXPECT_EQ(output->stats().released_packets, 1u);
}

TEST_F(DomainsOutputTest, WhatDomainsThatAreGoneHaveLeftIsRemoved) {
  for (const bool open : {true, false}) {
    kernel_.AddLink("vif7.0");
    Holding().reset();
    kernel_.Packet("vif7.0");
    kernel_.RemoveLink("vif7.0");
    ASSERT_TRUE(QueuesAreLeft());
    const auto output = Attach();
    ASSERT_TRUE(QueuesAreLeft()) << "attaching changes nothing";
    ASSERT_TRUE(open ? output->OpenAll().ok() : output->Discard().ok());
    EXPECT_FALSE(QueuesAreLeft());
  }
}

TEST_F(DomainsOutputTest, AHoldThatFailsIsNone) {
  kernel_.AddLink("vif7.0");
  const auto output = Attach();
  kernel_.fails[RTM_NEWTFILTER] = EINTR;
  EXPECT_FALSE(output->Hold().ok());
  kernel_.fails.clear();
  ASSERT_TRUE(output->Hold().ok());
  ExpectHeld(*output, "vif7.0");
}

}  // namespace
}  // namespace haven
