// SPDX-License-Identifier: Apache-2.0
#include "xen/output/plug_monitor.h"

#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cerrno>
#include <string>
#include <vector>

#include "engine/base/manual_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/output/fake_kernel_testing.h"
#include "xen/output/netlink_message.h"
#include "xen/output/output_requests.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

class PlugMonitorTest : public testing::Test {
 protected:
  PlugMonitorTest() {
    nic_ = kernel_.AddLink("vif7.0");
    other_ = kernel_.AddLink("eth0");
    EXPECT_TRUE(devices_.Ensure().ok());
    EXPECT_TRUE(devices_.Verify().ok());
    ifb_ = devices_.queues()[1].ifindex;
    monitor_.Watch(devices_);
  }

  static NetlinkBytes Link(int type, int ifindex, const std::string& name, bool up,
                           bool xdp = false) {
    ifinfomsg header = {};
    header.ifi_index = ifindex;
    header.ifi_flags = up ? IFF_UP : 0;
    NetlinkMessage message(type, 0, header);
    message.PutString(IFLA_IFNAME, name);
    if (xdp) message.Begin(IFLA_XDP).Put(IFLA_XDP_ATTACHED, uint8_t{XDP_ATTACHED_DRV}).End();
    return message.Take();
  }

  static NetlinkBytes Traffic(int type, int ifindex, uint32_t parent) {
    tcmsg header = {};
    header.tcm_ifindex = ifindex;
    header.tcm_parent = parent;
    return NetlinkMessage(type, 0, header).PutString(TCA_KIND, "any").Take();
  }

  // What an event means; empty: nothing.
  std::string After(NetlinkBytes event) {
    kernel_.Announce(std::move(event));
    const absl::Status status = monitor_.Poll();
    monitor_.Watch(devices_);
    return std::string(status.message());
  }

  ManualClock clock_{kNsPerSecond};
  FakeKernel kernel_{clock_};
  NetlinkChannel channel_{kernel_.Requests(), clock_, kNsPerSecond};
  int nic_ = 0;
  int other_ = 0;
  int ifb_ = 0;
  PlugDevices devices_{Spec(), channel_};
  PlugMonitor monitor_{Spec(), kernel_.Events(), clock_};

 private:
  static PlugSpec Spec() {
    PlugSpec spec;
    spec.group = "web";
    spec.devices = {"vif7.0"};
    spec.domains = {7};
    return spec;
  }
};

TEST_F(PlugMonitorTest, SilenceIsGood) { EXPECT_TRUE(monitor_.Poll().ok()); }

TEST_F(PlugMonitorTest, LinksOfTheBuffer) {
  const std::string ifb = devices_.queues()[1].name;
  EXPECT_EQ(After(Link(RTM_NEWLINK, ifb_, ifb, true)), "");
  EXPECT_THAT(After(Link(RTM_NEWLINK, ifb_, ifb, false)), HasSubstr("set " + ifb + " down"));
  EXPECT_THAT(After(Link(RTM_DELLINK, ifb_, ifb, false)), HasSubstr("removed " + ifb));
}

TEST_F(PlugMonitorTest, Nics) {
  EXPECT_EQ(After(Link(RTM_NEWLINK, nic_, "vif7.0", true)), "");
  EXPECT_THAT(After(Link(RTM_NEWLINK, nic_, "vif7.0", false)), HasSubstr("vif7.0 down"));
  EXPECT_THAT(After(Link(RTM_DELLINK, nic_, "vif7.0", true)), HasSubstr("vif7.0 is gone"));
  EXPECT_THAT(After(Link(RTM_NEWLINK, nic_, "vif7.0", true, true)), HasSubstr("XDP"));
  EXPECT_THAT(After(Link(RTM_NEWLINK, 99, "vif7.1", false)), HasSubstr("vif7.1 has come"));
  EXPECT_THAT(After(Link(RTM_NEWLINK, 99, "vif7.0-emu", true)), HasSubstr("vif7.0-emu has come"));
  EXPECT_EQ(After(Link(RTM_DELLINK, 99, "vif7.1", false)), "");
  EXPECT_EQ(After(Link(RTM_NEWLINK, 99, "vif8.0", true)), "");
  EXPECT_EQ(After(Link(RTM_NEWLINK, other_, "eth0", false)), "");
}

TEST_F(PlugMonitorTest, ANicOfAnotherNameIsKnownByItsBackEnd) {
  for (const bool ours : {true, false}) {
    ifinfomsg header = {};
    header.ifi_index = 99;
    NetlinkBytes event = NetlinkMessage(RTM_NEWLINK, 0, header)
                             .PutString(IFLA_IFNAME, "web-lan")
                             .PutString(IFLA_PARENT_DEV_NAME, ours ? "vif-7-1" : "vif-8-1")
                             .PutString(IFLA_PARENT_DEV_BUS_NAME, "xen-backend")
                             .Take();
    const std::string trouble = After(std::move(event));
    EXPECT_EQ(trouble.find("web-lan has come") != std::string::npos, ours) << trouble;
  }
}

TEST_F(PlugMonitorTest, AnEmulatedCardIsKnownByTheNicBesideIt) {
  kernel_.AddLink("web-lan");
  PlugSpec spec;
  spec.group = "web";
  spec.devices = {"web-lan"};
  PlugDevices named(spec, channel_);
  ASSERT_TRUE(named.Ensure().ok());
  ASSERT_TRUE(named.Verify().ok());
  monitor_.Watch(named);
  kernel_.Announce(Link(RTM_NEWLINK, 99, "db-lan-emu", true));
  EXPECT_TRUE(monitor_.Poll().ok());
  kernel_.Announce(Link(RTM_NEWLINK, 99, "web-lan-emu", true));
  EXPECT_THAT(std::string(monitor_.Poll().message()), HasSubstr("web-lan-emu has come"));
}

TEST_F(PlugMonitorTest, ANicThatWasDownMayComeUp) {
  kernel_.link("vif7.0")->up = false;
  ASSERT_TRUE(devices_.Verify().ok());
  monitor_.Watch(devices_);
  kernel_.Announce(Link(RTM_NEWLINK, nic_, "vif7.0", false));
  kernel_.Announce(Link(RTM_NEWLINK, nic_, "vif7.0", true));
  EXPECT_TRUE(monitor_.Poll().ok());
  kernel_.Announce(Link(RTM_NEWLINK, nic_, "vif7.0", false));
  EXPECT_FALSE(monitor_.Poll().ok());
}

TEST_F(PlugMonitorTest, TrafficControl) {
  const uint32_t ingress = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
  const uint32_t egress = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
  for (const int type : {RTM_NEWQDISC, RTM_DELQDISC}) {
    EXPECT_THAT(After(Traffic(type, ifb_, TC_H_ROOT)), HasSubstr("qdisc of hvn"));
    EXPECT_THAT(After(Traffic(type, nic_, TC_H_INGRESS)), HasSubstr("ingress qdisc of the NIC"));
    EXPECT_EQ(After(Traffic(type, nic_, TC_H_ROOT)), "");
    EXPECT_EQ(After(Traffic(type, other_, TC_H_INGRESS)), "");
  }
  for (const int type : {RTM_NEWTFILTER, RTM_DELTFILTER}) {
    EXPECT_THAT(After(Traffic(type, nic_, ingress)), HasSubstr("ingress filters of the NIC"));
    EXPECT_THAT(After(Traffic(type, nic_, 0xffff0000)), HasSubstr("ingress filters of the NIC"));
    EXPECT_EQ(After(Traffic(type, nic_, egress)), "");
    EXPECT_EQ(After(Traffic(type, other_, ingress)), "");
  }
}

TEST_F(PlugMonitorTest, Actions) {
  EXPECT_THAT(After(RedirectRequest(devices_.action(), other_)), HasSubstr("actions"));
  EXPECT_THAT(After(DropRequest(devices_.nics()[0].drop)), HasSubstr("actions"));
  EXPECT_EQ(After(RedirectRequest(devices_.action() + 50, other_)), "");
  EXPECT_EQ(After(DropRequest(devices_.nics()[0].drop + 50)), "");
}

TEST_F(PlugMonitorTest, LostEventsAreTrouble) {
  kernel_.AnnounceError(ENOBUFS);
  EXPECT_THAT(std::string(monitor_.Poll().message()), HasSubstr("lost"));
  monitor_.Watch(devices_);
  EXPECT_TRUE(monitor_.Poll().ok());
  kernel_.AnnounceError(EBADF);
  EXPECT_FALSE(monitor_.Poll().ok());
}

TEST_F(PlugMonitorTest, TroubleStaysAndSaysHowLong) {
  clock_.AdvanceNs(10 * kNsPerMs);
  ASSERT_TRUE(monitor_.Poll().ok());
  clock_.AdvanceNs(30 * kNsPerMs);
  kernel_.Announce(Traffic(RTM_DELQDISC, ifb_, TC_H_ROOT));
  EXPECT_THAT(std::string(monitor_.Poll().message()), HasSubstr(" 30 ms ago"));
  clock_.AdvanceNs(5 * kNsPerMs);
  EXPECT_THAT(std::string(monitor_.Poll().message()), HasSubstr(" 35 ms ago"));
  monitor_.Ignore();
  kernel_.Announce(Traffic(RTM_DELQDISC, ifb_, TC_H_ROOT));
  EXPECT_TRUE(monitor_.Poll().ok());
}

TEST_F(PlugMonitorTest, FlushForgetsWhatHasCome) {
  kernel_.Announce(Traffic(RTM_DELQDISC, ifb_, TC_H_ROOT));
  kernel_.AnnounceError(ENOBUFS);
  monitor_.Flush();
  EXPECT_TRUE(monitor_.Poll().ok());
}

TEST_F(PlugMonitorTest, MessagesThatMakeNoSenseAreNoTrouble) {
  kernel_.Announce({});
  kernel_.Announce(NetlinkBytes(5));
  NetlinkBytes liar = Traffic(RTM_DELQDISC, ifb_, TC_H_ROOT);
  reinterpret_cast<nlmsghdr*>(liar.data())->nlmsg_len = 4000;
  kernel_.Announce(liar);
  EXPECT_TRUE(monitor_.Poll().ok());
}

}  // namespace
}  // namespace haven
