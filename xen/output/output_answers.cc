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
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <array>
#include <cstring>

#include "xen/output/output_requests.h"

namespace haven {
namespace {

// Larger than any type of attribute that is asked for.
constexpr int kAttributeMax = 95;
static_assert(IFLA_MAX <= kAttributeMax && TCA_MAX <= kAttributeMax);

// The attributes of one level, by their types; those of larger types are passed over.
struct Attributes {
  std::array<nlattr*, kAttributeMax + 1> by_type = {};

  template <typename Header>
  bool OfMessage(nlmsghdr& message) {
    return nlmsg_parse(&message, sizeof(Header), by_type.data(), kAttributeMax, nullptr) == 0;
  }

  bool Inside(nlattr* parent) {
    return parent != nullptr &&
           nla_parse_nested(by_type.data(), kAttributeMax, parent, nullptr) == 0;
  }

  nlattr* at(int type) const { return by_type[static_cast<size_t>(type)]; }

  // A value, if it is there in full.
  template <typename Value>
  std::optional<Value> Get(int type) const {
    const nlattr* attribute = at(type);
    if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(Value))) return {};
    Value value;
    std::memcpy(&value, nla_data(attribute), sizeof(value));
    return value;
  }

  std::string Text(int type) const {
    const nlattr* attribute = at(type);
    if (attribute == nullptr) return "";
    const char* text = static_cast<const char*>(nla_data(attribute));
    return std::string(text, strnlen(text, static_cast<size_t>(nla_len(attribute))));
  }
};

template <typename Header>
Header HeaderOf(const nlmsghdr& message) {
  Header header;
  std::memcpy(&header, nlmsg_data(&message), sizeof(header));
  return header;
}

// What one entry of a table of actions is.
struct Action {
  std::string kind;
  std::optional<tc_mirred> redirection;
  std::optional<tc_gact> verdict;
};

std::vector<Action> ActionsInside(nlattr* table) {
  std::vector<Action> actions;
  Attributes entries;
  if (!entries.Inside(table)) return actions;
  for (nlattr* entry : entries.by_type) {
    Attributes fields;
    if (!fields.Inside(entry)) continue;
    Action action;
    action.kind = fields.Text(TCA_ACT_KIND);
    Attributes mirred;
    Attributes gact;
    if (action.kind == "mirred" && mirred.Inside(fields.at(TCA_ACT_OPTIONS))) {
      action.redirection = mirred.Get<tc_mirred>(TCA_MIRRED_PARMS);
    }
    if (action.kind == "gact" && gact.Inside(fields.at(TCA_ACT_OPTIONS))) {
      action.verdict = gact.Get<tc_gact>(TCA_GACT_PARMS);
    }
    actions.push_back(std::move(action));
  }
  return actions;
}

std::optional<FilterAnswer::Ours> OurFilter(nlattr* options) {
  Attributes matchall;
  if (!matchall.Inside(options)) return {};
  const std::vector<Action> actions = ActionsInside(matchall.at(TCA_MATCHALL_ACT));
  if (actions.size() != 2 || !actions[0].redirection || !actions[1].verdict) return {};
  const tc_mirred& redirection = *actions[0].redirection;
  const tc_gact& verdict = *actions[1].verdict;
  FilterAnswer::Ours ours;
  ours.redirection = redirection.index;
  ours.target = static_cast<int>(redirection.ifindex);
  ours.drop = verdict.index;
  ours.intact = redirection.eaction == TCA_EGRESS_REDIR && redirection.action == TC_ACT_PIPE &&
                verdict.action == TC_ACT_SHOT;
  return ours;
}

}  // namespace

std::optional<LinkAnswer> ReadLink(nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWLINK && message.nlmsg_type != RTM_DELLINK) return {};
  Attributes attributes;
  if (!attributes.OfMessage<ifinfomsg>(message)) return {};
  const auto header = HeaderOf<ifinfomsg>(message);
  LinkAnswer link;
  link.ifindex = header.ifi_index;
  link.up = (header.ifi_flags & IFF_UP) != 0;
  link.name = attributes.Text(IFLA_IFNAME);
  link.alias = attributes.Text(IFLA_IFALIAS);
  Attributes info;
  if (info.Inside(attributes.at(IFLA_LINKINFO))) link.kind = info.Text(IFLA_INFO_KIND);
  if (attributes.Text(IFLA_PARENT_DEV_BUS_NAME) == "xen-backend") {
    link.back_end = attributes.Text(IFLA_PARENT_DEV_NAME);
  }
  Attributes xdp;
  if (xdp.Inside(attributes.at(IFLA_XDP))) {
    link.xdp = xdp.Get<uint8_t>(IFLA_XDP_ATTACHED).value_or(XDP_ATTACHED_NONE) != XDP_ATTACHED_NONE;
  }
  return link;
}

std::optional<QdiscAnswer> ReadQdisc(nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWQDISC && message.nlmsg_type != RTM_DELQDISC) return {};
  Attributes attributes;
  if (!attributes.OfMessage<tcmsg>(message)) return {};
  const auto header = HeaderOf<tcmsg>(message);
  QdiscAnswer qdisc;
  qdisc.ifindex = header.tcm_ifindex;
  qdisc.parent = header.tcm_parent;
  qdisc.handle = header.tcm_handle;
  qdisc.kind = attributes.Text(TCA_KIND);
  Attributes stats;
  if (!stats.Inside(attributes.at(TCA_STATS2))) return qdisc;
  if (const auto queue = stats.Get<gnet_stats_queue>(TCA_STATS_QUEUE)) {
    qdisc.held_packets = queue->qlen;
    qdisc.held_bytes = queue->backlog;
    qdisc.dropped_packets = queue->drops;
  }
  // The structure's own size counts its padding, which the kernel does not send.
  struct Basic {
    uint64_t bytes;
    uint32_t packets;
  } __attribute__((packed));
  if (const auto basic = stats.Get<Basic>(TCA_STATS_BASIC)) qdisc.passed_packets = basic->packets;
  if (const auto packets = stats.Get<uint64_t>(TCA_STATS_PKT64)) qdisc.passed_packets = *packets;
  return qdisc;
}

std::optional<PassageAnswer> ReadPassage(nlmsghdr& message) {
  Attributes attributes;
  PassageAnswer passage;
  if (message.nlmsg_type == RTM_NEWQDISC && attributes.OfMessage<tcmsg>(message)) {
    Attributes stats;
    if (!stats.Inside(attributes.at(TCA_STATS2))) return {};
    const auto queue = stats.Get<gnet_stats_queue>(TCA_STATS_QUEUE);
    if (!queue) return {};
    passage.inside_packets = queue->qlen;
    return passage;
  }
  if (message.nlmsg_type == RTM_NEWSTATS && attributes.OfMessage<if_stats_msg>(message)) {
    const auto counted = attributes.Get<rtnl_link_stats64>(IFLA_STATS_LINK_64);
    if (!counted) return {};
    // What an ifb refuses because nobody has redirected it there goes nowhere.
    const uint64_t entered = counted->rx_packets - counted->rx_dropped;
    passage.inside_packets = entered - counted->tx_packets;
    passage.passed_packets = counted->tx_packets;
    return passage;
  }
  return {};
}

std::optional<FilterAnswer> ReadFilter(nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWTFILTER && message.nlmsg_type != RTM_DELTFILTER) return {};
  Attributes attributes;
  if (!attributes.OfMessage<tcmsg>(message)) return {};
  const auto header = HeaderOf<tcmsg>(message);
  FilterAnswer filter;
  filter.ifindex = header.tcm_ifindex;
  filter.parent = header.tcm_parent;
  filter.preference = TC_H_MAJ(header.tcm_info) >> 16;
  filter.header = header.tcm_handle == 0;
  const bool first = filter.preference == kFilterPreference &&
                     TC_H_MIN(header.tcm_info) == htons(ETH_P_ALL) &&
                     attributes.Get<uint32_t>(TCA_CHAIN).value_or(0) == 0;
  if (first && attributes.Text(TCA_KIND) == "matchall") {
    filter.ours = OurFilter(attributes.at(TCA_OPTIONS));
  }
  return filter;
}

std::vector<ActionAnswer> ReadActions(nlmsghdr& message) {
  std::vector<ActionAnswer> answers;
  if (message.nlmsg_type != RTM_NEWACTION && message.nlmsg_type != RTM_DELACTION) return answers;
  Attributes attributes;
  if (!attributes.OfMessage<tcamsg>(message)) return answers;
  for (const Action& action : ActionsInside(attributes.at(TCA_ACT_TAB))) {
    if (action.redirection) answers.push_back({action.kind, action.redirection->index});
    if (action.verdict) answers.push_back({action.kind, action.verdict->index});
  }
  return answers;
}

}  // namespace haven
