// SPDX-License-Identifier: Apache-2.0
#include "xen/output/output_answers.h"

#include <arpa/inet.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>

#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "xen/output/netlink_message.h"
#include "xen/output/output_requests.h"

namespace haven {
namespace {

nlmsghdr& HeaderOf(NetlinkBytes& bytes) { return *reinterpret_cast<nlmsghdr*>(bytes.data()); }

tcmsg OurPlace() {
  tcmsg filter = {};
  filter.tcm_ifindex = 5;
  filter.tcm_handle = 1;
  filter.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
  filter.tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL));
  return filter;
}

NetlinkBytes Filter(const tcmsg& place, int eaction, int control, int verdict,
                    const char* kind = "matchall") {
  tc_mirred redirection = {};
  redirection.index = 3;
  redirection.ifindex = 8;
  redirection.eaction = eaction;
  redirection.action = control;
  tc_gact drop = {};
  drop.index = 4;
  drop.action = verdict;
  return NetlinkMessage(RTM_NEWTFILTER, 0, place)
      .PutString(TCA_KIND, kind)
      .Begin(TCA_OPTIONS)
      .Begin(TCA_MATCHALL_ACT)
      .Begin(1)
      .PutString(TCA_ACT_KIND, "mirred")
      .Begin(TCA_ACT_OPTIONS)
      .Put(TCA_MIRRED_PARMS, redirection)
      .End()
      .End()
      .Begin(2)
      .PutString(TCA_ACT_KIND, "gact")
      .Begin(TCA_ACT_OPTIONS)
      .Put(TCA_GACT_PARMS, drop)
      .End()
      .End()
      .End()
      .End()
      .Take();
}

TEST(OutputAnswers, WhatWeAskForIsWhatWeRecognise) {
  NetlinkBytes request = AddFilterRequest(5, 8, 3);
  const auto filter = ReadFilter(HeaderOf(request));
  ASSERT_TRUE(filter && filter->ours);
  EXPECT_EQ(filter->ifindex, 5);
  EXPECT_EQ(filter->preference, 1u);
  EXPECT_EQ(filter->ours->redirection, 3u);
  EXPECT_EQ(filter->ours->target, 8);
  EXPECT_TRUE(filter->ours->intact);
  NetlinkBytes plug = AddPlugRequest(8, 1000);
  const auto qdisc = ReadQdisc(HeaderOf(plug));
  ASSERT_TRUE(qdisc);
  EXPECT_EQ(qdisc->kind, "plug");
  EXPECT_EQ(qdisc->handle, kPlugHandle);
  EXPECT_EQ(qdisc->parent, TC_H_ROOT);
  NetlinkBytes redirect = RedirectRequest(3, 9);
  const auto actions = ReadActions(HeaderOf(redirect));
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(actions[0].kind, "mirred");
  EXPECT_EQ(actions[0].number, 3u);
  NetlinkBytes drop = DropRequest(4);
  ASSERT_EQ(ReadActions(HeaderOf(drop)).size(), 1u);
  EXPECT_EQ(ReadActions(HeaderOf(drop))[0].kind, "gact");
}

TEST(OutputAnswers, AFilterThatWouldLetPacketsThroughIsNotIntact) {
  const auto intact = [](int eaction, int control, int verdict) {
    NetlinkBytes bytes = Filter(OurPlace(), eaction, control, verdict);
    const auto filter = ReadFilter(HeaderOf(bytes));
    return filter && filter->ours && filter->ours->intact;
  };
  EXPECT_TRUE(intact(TCA_EGRESS_REDIR, TC_ACT_PIPE, TC_ACT_SHOT));
  EXPECT_FALSE(intact(TCA_EGRESS_MIRROR, TC_ACT_PIPE, TC_ACT_SHOT));
  EXPECT_FALSE(intact(TCA_INGRESS_REDIR, TC_ACT_PIPE, TC_ACT_SHOT));
  EXPECT_FALSE(intact(TCA_EGRESS_REDIR, TC_ACT_STOLEN, TC_ACT_SHOT));
  EXPECT_FALSE(intact(TCA_EGRESS_REDIR, TC_ACT_OK, TC_ACT_SHOT));
  EXPECT_FALSE(intact(TCA_EGRESS_REDIR, TC_ACT_PIPE, TC_ACT_OK));
}

TEST(OutputAnswers, AFilterAtAnotherPlaceIsNotOurs) {
  const auto ours = [](const tcmsg& place, const char* kind) {
    NetlinkBytes bytes = Filter(place, TCA_EGRESS_REDIR, TC_ACT_PIPE, TC_ACT_SHOT, kind);
    return ReadFilter(HeaderOf(bytes))->ours.has_value();
  };
  EXPECT_TRUE(ours(OurPlace(), "matchall"));
  EXPECT_FALSE(ours(OurPlace(), "u32"));
  tcmsg later = OurPlace();
  later.tcm_info = TC_H_MAKE(2 << 16, htons(ETH_P_ALL));
  EXPECT_FALSE(ours(later, "matchall"));
  tcmsg ip_only = OurPlace();
  ip_only.tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_IP));
  EXPECT_FALSE(ours(ip_only, "matchall")) << "what is not IP would pass";
  tcmsg header = OurPlace();
  header.tcm_handle = 0;
  NetlinkBytes bytes = NetlinkMessage(RTM_NEWTFILTER, 0, header).PutString(TCA_KIND, "u32").Take();
  EXPECT_TRUE(ReadFilter(HeaderOf(bytes))->header);
}

TEST(OutputAnswers, ALink) {
  ifinfomsg header = {};
  header.ifi_index = 12;
  header.ifi_flags = IFF_UP;
  NetlinkBytes bytes = NetlinkMessage(RTM_NEWLINK, 0, header)
                           .PutString(IFLA_IFNAME, "vif7.0")
                           .PutString(IFLA_IFALIAS, "whose")
                           .Begin(IFLA_LINKINFO)
                           .PutString(IFLA_INFO_KIND, "ifb")
                           .End()
                           .Begin(IFLA_XDP)
                           .Put(IFLA_XDP_ATTACHED, uint8_t{XDP_ATTACHED_SKB})
                           .End()
                           .Take();
  const auto link = ReadLink(HeaderOf(bytes));
  ASSERT_TRUE(link);
  EXPECT_EQ(link->ifindex, 12);
  EXPECT_TRUE(link->up);
  EXPECT_TRUE(link->xdp);
  EXPECT_EQ(link->name, "vif7.0");
  EXPECT_EQ(link->alias, "whose");
  EXPECT_EQ(link->kind, "ifb");
  EXPECT_EQ(link->back_end, "");
}

TEST(OutputAnswers, TheBackEndOfANic) {
  for (const std::string bus : {"xen-backend", "pci"}) {
    NetlinkBytes bytes = NetlinkMessage(RTM_NEWLINK, 0, ifinfomsg{})
                             .PutString(IFLA_IFNAME, "web-lan")
                             .PutString(IFLA_PARENT_DEV_NAME, "vif-7-0")
                             .PutString(IFLA_PARENT_DEV_BUS_NAME, bus)
                             .Take();
    const auto link = ReadLink(HeaderOf(bytes));
    ASSERT_TRUE(link);
    EXPECT_EQ(link->back_end, bus == "pci" ? "" : "vif-7-0");
  }
}

TEST(OutputAnswers, StatisticsOfAQueue) {
  gnet_stats_queue queue = {};
  queue.qlen = 7;
  queue.backlog = 900;
  queue.drops = 3;
  // As the kernel sends it: without the padding of the structure.
  struct {
    uint64_t bytes;
    uint32_t packets;
  } __attribute__((packed)) basic = {.bytes = 1, .packets = 40};
  NetlinkBytes bytes = NetlinkMessage(RTM_NEWQDISC, 0, tcmsg{})
                           .PutString(TCA_KIND, "plug")
                           .Begin(TCA_STATS2)
                           .Put(TCA_STATS_QUEUE, queue)
                           .Put(TCA_STATS_BASIC, basic)
                           .End()
                           .Take();
  const auto qdisc = ReadQdisc(HeaderOf(bytes));
  ASSERT_TRUE(qdisc);
  EXPECT_EQ(qdisc->held_packets, 7u);
  EXPECT_EQ(qdisc->held_bytes, 900u);
  EXPECT_EQ(qdisc->dropped_packets, 3u);
  EXPECT_EQ(qdisc->passed_packets, 40u);
  EXPECT_EQ(ReadPassage(HeaderOf(bytes))->inside_packets, 7u);
  rtnl_link_stats64 counted = {};
  counted.rx_packets = 50;
  counted.rx_dropped = 2;
  counted.tx_packets = 45;
  NetlinkBytes stats =
      NetlinkMessage(RTM_NEWSTATS, 0, if_stats_msg{}).Put(IFLA_STATS_LINK_64, counted).Take();
  const auto passage = ReadPassage(HeaderOf(stats));
  ASSERT_TRUE(passage);
  EXPECT_EQ(passage->inside_packets, 3u);
  EXPECT_EQ(passage->passed_packets, 45u);
}

TEST(OutputAnswers, WhatIsMissingOrShortIsNotRead) {
  NetlinkBytes qdisc = NetlinkMessage(RTM_NEWQDISC, 0, tcmsg{})
                           .Begin(TCA_STATS2)
                           .Put(TCA_STATS_QUEUE, uint16_t{1})
                           .End()
                           .Take();
  EXPECT_EQ(ReadQdisc(HeaderOf(qdisc))->held_packets, 0u);
  EXPECT_FALSE(ReadPassage(HeaderOf(qdisc)));
  NetlinkBytes bare = NetlinkMessage(RTM_NEWSTATS, 0, if_stats_msg{}).Take();
  EXPECT_FALSE(ReadPassage(HeaderOf(bare)));
  for (const int type : {RTM_NEWLINK, RTM_NEWQDISC, RTM_NEWTFILTER, RTM_NEWACTION}) {
    NetlinkBytes stub = NetlinkMessage(type, 0, uint8_t{0}).Take();
    HeaderOf(stub).nlmsg_len = sizeof(nlmsghdr) + 1;
    EXPECT_FALSE(ReadLink(HeaderOf(stub)));
    EXPECT_FALSE(ReadQdisc(HeaderOf(stub)));
    EXPECT_FALSE(ReadFilter(HeaderOf(stub)));
    EXPECT_TRUE(ReadActions(HeaderOf(stub)).empty());
  }
}

TEST(OutputAnswers, DamagedMessagesAreReadWithinTheirBounds) {
  std::minstd_rand random(1);
  const NetlinkBytes whole = Filter(OurPlace(), TCA_EGRESS_REDIR, TC_ACT_PIPE, TC_ACT_SHOT);
  int recognised = 0;
  for (int i = 0; i < 20'000; ++i) {
    NetlinkBytes bytes = whole;
    for (int damage = 0; damage < 3; ++damage) {
      const size_t at = sizeof(nlmsghdr) + random() % (bytes.size() - sizeof(nlmsghdr));
      bytes[at] = static_cast<std::byte>(random());
    }
    bytes.shrink_to_fit();
    const auto filter = ReadFilter(HeaderOf(bytes));
    recognised += filter && filter->ours ? 1 : 0;
    HeaderOf(bytes).nlmsg_type = RTM_NEWACTION;
    ReadActions(HeaderOf(bytes));
    HeaderOf(bytes).nlmsg_type = RTM_NEWLINK;
    ReadLink(HeaderOf(bytes));
    HeaderOf(bytes).nlmsg_type = RTM_NEWQDISC;
    ReadQdisc(HeaderOf(bytes));
  }
  EXPECT_GT(recognised, 0);
}

TEST(OutputRequests, OnlyTheLastOfABatchIsAcknowledged) {
  NetlinkBytes batch = Batch(ClosePlugRequest(1), OpenPlugRequest(2));
  const nlmsghdr& first = HeaderOf(batch);
  EXPECT_EQ(first.nlmsg_flags & NLM_F_ACK, 0);
  const auto* second =
      reinterpret_cast<const nlmsghdr*>(batch.data() + NLMSG_ALIGN(first.nlmsg_len));
  EXPECT_EQ(second->nlmsg_flags & NLM_F_ACK, NLM_F_ACK);
  EXPECT_EQ(NLMSG_ALIGN(first.nlmsg_len) + NLMSG_ALIGN(second->nlmsg_len), batch.size());
}

}  // namespace
}  // namespace haven
