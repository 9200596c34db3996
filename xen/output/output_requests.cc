// SPDX-License-Identifier: Apache-2.0
#include "xen/output/output_requests.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstring>

#include "xen/output/netlink_message.h"

namespace haven {
namespace {

constexpr uint32_t kIngressHandle = 0xffff'0000;
// Both kinds of qdisc that can be there, ingress and clsact, know their filters by this name.
constexpr uint32_t kIngressFilters = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);

ifinfomsg Link(int ifindex) {
  ifinfomsg link = {};
  link.ifi_family = AF_UNSPEC;
  link.ifi_index = ifindex;
  return link;
}

tcmsg Traffic(int ifindex, uint32_t parent, uint32_t handle) {
  tcmsg traffic = {};
  traffic.tcm_family = AF_UNSPEC;
  traffic.tcm_ifindex = ifindex;
  traffic.tcm_parent = parent;
  traffic.tcm_handle = handle;
  return traffic;
}

NetlinkBytes PlugRequest(int ifindex, int flags, int action, uint32_t limit_bytes) {
  tc_plug_qopt options = {};
  options.action = action;
  options.limit = limit_bytes;
  return NetlinkMessage(RTM_NEWQDISC, NLM_F_ACK | flags, Traffic(ifindex, TC_H_ROOT, kPlugHandle))
      .PutString(TCA_KIND, "plug")
      .Put(TCA_OPTIONS, options)
      .Take();
}

// PIPE has the next action follow, which makes mirred send a clone and keep the packet.
tc_mirred CloneTo(int target, uint32_t action) {
  tc_mirred redirection = {};
  redirection.index = action;
  redirection.action = TC_ACT_PIPE;
  redirection.eaction = TCA_EGRESS_REDIR;
  redirection.ifindex = static_cast<uint32_t>(target);
  return redirection;
}

tc_gact Drop(uint32_t action) {
  tc_gact drop = {};
  drop.index = action;
  drop.action = TC_ACT_SHOT;
  return drop;
}

tcmsg OurPlace(int ifindex) {
  tcmsg filter = Traffic(ifindex, kIngressFilters, 0);
  filter.tcm_info = TC_H_MAKE(kFilterPreference << 16, htons(ETH_P_ALL));
  return filter;
}

// Changes an action that exists.
template <typename Parameters>
NetlinkBytes ActionRequest(const char* kind, int attribute, const Parameters& parameters) {
  tcamsg actions = {};
  actions.tca_family = AF_UNSPEC;
  return NetlinkMessage(RTM_NEWACTION, NLM_F_ACK | NLM_F_REPLACE, actions)
      .Begin(TCA_ACT_TAB)
      .Begin(1)
      .PutString(TCA_ACT_KIND, kind)
      .Begin(TCA_ACT_OPTIONS)
      .Put(attribute, parameters)
      .End()
      .End()
      .End()
      .Take();
}

}  // namespace

NetlinkBytes GetLinkRequest(const std::string& name) {
  return NetlinkMessage(RTM_GETLINK, NLM_F_ACK, Link(0)).PutString(IFLA_IFNAME, name).Take();
}

NetlinkBytes DumpLinksRequest() { return NetlinkMessage(RTM_GETLINK, NLM_F_DUMP, Link(0)).Take(); }

NetlinkBytes CreateIfbRequest(const std::string& name) {
  return NetlinkMessage(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, Link(0))
      .PutString(IFLA_IFNAME, name)
      .Put(IFLA_NUM_TX_QUEUES, uint32_t{1})
      .Put(IFLA_NUM_RX_QUEUES, uint32_t{1})
      .Begin(IFLA_LINKINFO)
      .PutString(IFLA_INFO_KIND, "ifb")
      .End()
      .Take();
}

NetlinkBytes SilenceIfbRequest(int ifindex) {
  return NetlinkMessage(RTM_NEWLINK, NLM_F_ACK, Link(ifindex))
      .Begin(IFLA_AF_SPEC)
      .Begin(AF_INET6)
      .Put(IFLA_INET6_ADDR_GEN_MODE, uint8_t{IN6_ADDR_GEN_MODE_NONE})
      .End()
      .End()
      .Take();
}

NetlinkBytes RaiseIfbRequest(int ifindex, const std::string& alias, uint32_t queue_packets) {
  ifinfomsg link = Link(ifindex);
  link.ifi_flags = IFF_UP;
  link.ifi_change = IFF_UP;
  return NetlinkMessage(RTM_NEWLINK, NLM_F_ACK, link)
      .PutString(IFLA_IFALIAS, alias)
      .Put(IFLA_TXQLEN, queue_packets)
      .Take();
}

NetlinkBytes DeleteLinkRequest(int ifindex) {
  return NetlinkMessage(RTM_DELLINK, NLM_F_ACK, Link(ifindex)).Take();
}

NetlinkBytes AddPlugRequest(int ifindex, uint32_t limit_bytes) {
  return PlugRequest(ifindex, NLM_F_CREATE | NLM_F_REPLACE, TCQ_PLUG_BUFFER, limit_bytes);
}

NetlinkBytes ClosePlugRequest(int ifindex) { return PlugRequest(ifindex, 0, TCQ_PLUG_BUFFER, 0); }

NetlinkBytes OpenPlugRequest(int ifindex) {
  return PlugRequest(ifindex, 0, TCQ_PLUG_RELEASE_INDEFINITE, 0);
}

NetlinkBytes Batch(const NetlinkBytes& first, const NetlinkBytes& second) {
  NetlinkBytes both = first;
  nlmsghdr header;
  std::memcpy(&header, both.data(), sizeof(header));
  header.nlmsg_flags = static_cast<uint16_t>(header.nlmsg_flags & ~NLM_F_ACK);
  std::memcpy(both.data(), &header, sizeof(header));
  both.insert(both.end(), second.begin(), second.end());
  return both;
}

NetlinkBytes GetRootRequest(int ifindex) {
  // The kernel answers this one only to those who want to hear their own notifications.
  return NetlinkMessage(RTM_GETQDISC, NLM_F_ACK | NLM_F_ECHO, Traffic(ifindex, TC_H_ROOT, 0))
      .Take();
}

NetlinkBytes PassageRequest(int ifindex) {
  if_stats_msg stats = {};
  stats.ifindex = static_cast<uint32_t>(ifindex);
  stats.filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64);
  return Batch(GetRootRequest(ifindex), NetlinkMessage(RTM_GETSTATS, NLM_F_ACK, stats).Take());
}

NetlinkBytes AddIngressRequest(int ifindex) {
  return NetlinkMessage(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
                        Traffic(ifindex, TC_H_INGRESS, kIngressHandle))
      .PutString(TCA_KIND, "ingress")
      .Take();
}

NetlinkBytes DeleteIngressRequest(int ifindex) {
  return NetlinkMessage(RTM_DELQDISC, NLM_F_ACK, Traffic(ifindex, TC_H_INGRESS, kIngressHandle))
      .Take();
}

NetlinkBytes DumpFiltersRequest(int ifindex) {
  return NetlinkMessage(RTM_GETTFILTER, NLM_F_DUMP, Traffic(ifindex, kIngressFilters, 0)).Take();
}

NetlinkBytes GetIngressRequest(int ifindex) {
  return NetlinkMessage(RTM_GETQDISC, NLM_F_ACK | NLM_F_ECHO, Traffic(ifindex, TC_H_INGRESS, 0))
      .Take();
}

NetlinkBytes AddFilterRequest(int ifindex, int target, uint32_t action) {
  return NetlinkMessage(RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, OurPlace(ifindex))
      .PutString(TCA_KIND, "matchall")
      .Begin(TCA_OPTIONS)
      .Put(TCA_MATCHALL_FLAGS, uint32_t{TCA_CLS_FLAGS_SKIP_HW})
      .Begin(TCA_MATCHALL_ACT)
      .Begin(1)
      .PutString(TCA_ACT_KIND, "mirred")
      .Begin(TCA_ACT_OPTIONS)
      .Put(TCA_MIRRED_PARMS, CloneTo(target, action))
      .End()
      .End()
      .Begin(2)
      .PutString(TCA_ACT_KIND, "gact")
      .Begin(TCA_ACT_OPTIONS)
      .Put(TCA_GACT_PARMS, Drop(0))
      .End()
      .End()
      .End()
      .End()
      .Take();
}

NetlinkBytes DeleteFilterRequest(int ifindex) {
  return NetlinkMessage(RTM_DELTFILTER, NLM_F_ACK, OurPlace(ifindex)).Take();
}

NetlinkBytes RedirectRequest(uint32_t action, int target) {
  return ActionRequest("mirred", TCA_MIRRED_PARMS, CloneTo(target, action));
}

NetlinkBytes DropRequest(uint32_t action) {
  return ActionRequest("gact", TCA_GACT_PARMS, Drop(action));
}

}  // namespace haven
