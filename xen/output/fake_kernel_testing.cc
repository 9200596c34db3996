// SPDX-License-Identifier: Apache-2.0
#include "xen/output/fake_kernel_testing.h"

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

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "xen/output/netlink_message.h"
#include "xen/output/output_answers.h"
#include "xen/output/output_requests.h"

namespace haven {

class FakeSocket final : public NetlinkSocket {
 public:
  FakeSocket(FakeKernel& kernel, bool events) : kernel_(kernel), events_(events) {}

  int Send(std::span<const std::byte> datagram) override {
    kernel_.Receive(datagram);
    return 0;
  }

  NetlinkReceived Receive(std::span<std::byte> buffer, int64_t deadline_ns) override {
    auto& queue = events_ ? kernel_.events_ : kernel_.answers_;
    if (queue.empty()) {
      const int64_t left_ns = deadline_ns - kernel_.clock_.NowNs();
      if (left_ns > 0) kernel_.clock_.AdvanceNs(left_ns);
      return {.bytes = 0, .error = EAGAIN};
    }
    if (!events_) kernel_.clock_.AdvanceNs(kernel_.answer_ns);
    const FakeKernel::Datagram next = std::move(queue.front());
    queue.pop_front();
    if (next.error != 0) return {.bytes = 0, .error = next.error};
    std::copy(next.bytes.begin(), next.bytes.end(), buffer.begin());
    return {.bytes = next.bytes.size(), .error = 0};
  }

  uint32_t port() const override { return 4711; }

 private:
  FakeKernel& kernel_;
  const bool events_;
};

namespace {

template <typename Header>
Header HeaderOf(const nlmsghdr& message) {
  Header header;
  std::memcpy(&header, nlmsg_data(&message), sizeof(header));
  return header;
}

template <typename Value>
Value ValueOf(const nlattr* attribute) {
  Value value = {};
  if (attribute != nullptr) std::memcpy(&value, nla_data(attribute), sizeof(value));
  return value;
}

NetlinkBytes LinkMessage(int ifindex, const FakeKernel::Link& link) {
  ifinfomsg header = {};
  header.ifi_index = ifindex;
  header.ifi_flags = link.up ? IFF_UP : 0;
  NetlinkMessage message(RTM_NEWLINK, 0, header);
  message.PutString(IFLA_IFNAME, link.name);
  if (!link.alias.empty()) message.PutString(IFLA_IFALIAS, link.alias);
  if (!link.kind.empty()) {
    message.Begin(IFLA_LINKINFO).PutString(IFLA_INFO_KIND, link.kind).End();
  }
  if (!link.back_end.empty()) {
    message.PutString(IFLA_PARENT_DEV_NAME, link.back_end)
        .PutString(IFLA_PARENT_DEV_BUS_NAME, "xen-backend");
  }
  message.Begin(IFLA_XDP).Put(IFLA_XDP_ATTACHED, uint8_t{link.xdp}).End();
  return message.Take();
}

}  // namespace

std::unique_ptr<NetlinkSocket> FakeKernel::Requests() {
  return std::make_unique<FakeSocket>(*this, false);
}

std::unique_ptr<NetlinkSocket> FakeKernel::Events() {
  return std::make_unique<FakeSocket>(*this, true);
}

int FakeKernel::AddLink(const std::string& name, const std::string& kind) {
  Link& link = links_[++next_ifindex_];
  link.name = name;
  link.kind = kind;
  link.up = kind.empty();
  return next_ifindex_;
}

void FakeKernel::RemoveLink(const std::string& name) {
  const int gone = ifindex(name);
  links_.erase(gone);
  for (auto& [number, target] : redirections) {
    if (target == gone) target = 0;
  }
}

int FakeKernel::ifindex(const std::string& name) const {
  for (const auto& [index, link] : links_) {
    if (link.name == name) return index;
  }
  return 0;
}

FakeKernel::Link* FakeKernel::link(const std::string& name) {
  const auto found = links_.find(ifindex(name));
  return found == links_.end() ? nullptr : &found->second;
}

bool FakeKernel::Packet(const std::string& nic) {
  const Link& from = *link(nic);
  if (from.preference == 0) return true;
  const bool dropped = verdicts[from.drop] == TC_ACT_SHOT;
  const auto target = links_.find(redirections[from.redirection]);
  if (target == links_.end() || !target->second.up) return !dropped;
  Link& queue = target->second;
  ++queue.held;
  if (queue.root != "plug") queue.open = true;
  const uint64_t before = queue.passed;
  Settle(queue);
  return !dropped || queue.passed > before;
}

void FakeKernel::Settle(Link& link) {
  if (!link.open || stuck) return;
  link.passed += link.held;
  link.held = 0;
}

void FakeKernel::Answer(NetlinkBytes message, uint32_t sequence) {
  reinterpret_cast<nlmsghdr*>(message.data())->nlmsg_seq = sequence;
  answers_.push_back({std::move(message), 0});
}

void FakeKernel::Receive(std::span<const std::byte> datagram) {
  NetlinkBytes bytes(datagram.begin(), datagram.end());
  auto* request = reinterpret_cast<nlmsghdr*>(bytes.data());
  int left = static_cast<int>(bytes.size());
  for (; nlmsg_ok(request, left) != 0; request = nlmsg_next(request, &left)) {
    const int type = request->nlmsg_type;
    ++requests[type];
    const auto failing = fails.find(type);
    const int error = failing == fails.end() ? CarryOut(*request) : failing->second;
    if (const auto silent = unanswered.find(type);
        silent != unanswered.end() && silent->second > 0) {
      --silent->second;
      continue;
    }
    const bool dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    if (dump && error == 0) {
      Answer(NetlinkMessage(NLMSG_DONE, 0, int32_t{0}).Take(), request->nlmsg_seq);
    } else if (error != 0 || (request->nlmsg_flags & NLM_F_ACK) != 0) {
      nlmsgerr answer = {};
      answer.error = -error;
      Answer(NetlinkMessage(NLMSG_ERROR, 0, answer).Take(), request->nlmsg_seq);
    }
  }
}

int FakeKernel::CarryOut(nlmsghdr& request) {
  switch (request.nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return ChangeLink(request);
    case RTM_GETLINK:
      return ReadLinks(request);
    case RTM_NEWQDISC:
    case RTM_DELQDISC:
      return ChangeQdisc(request);
    case RTM_GETQDISC:
      return ReadQdisc(request);
    case RTM_GETSTATS:
      return ReadStats(request);
    case RTM_NEWTFILTER:
    case RTM_DELTFILTER:
      return ChangeFilter(request);
    case RTM_GETTFILTER:
      return ReadFilters(request);
    case RTM_NEWACTION:
      return ChangeAction(request);
    default:
      return EOPNOTSUPP;
  }
}

int FakeKernel::ChangeLink(nlmsghdr& request) {
  const LinkAnswer wanted = *ReadLink(request);
  if (request.nlmsg_type == RTM_NEWLINK && (request.nlmsg_flags & NLM_F_CREATE) != 0) {
    if (link(wanted.name) != nullptr) return EEXIST;
    AddLink(wanted.name, wanted.kind);
    return 0;
  }
  const auto found = links_.find(wanted.ifindex);
  if (found == links_.end()) return ENODEV;
  if (request.nlmsg_type == RTM_DELLINK) {
    RemoveLink(found->second.name);
    return 0;
  }
  found->second.up |= wanted.up;
  if (!wanted.alias.empty()) found->second.alias = wanted.alias;
  return 0;
}

int FakeKernel::ReadLinks(nlmsghdr& request) {
  const bool all = (request.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  const nlattr* asked = nlmsg_find_attr(&request, sizeof(ifinfomsg), IFLA_IFNAME);
  const std::string name = asked == nullptr ? "" : nla_get_string(asked);
  bool found = all;
  for (const auto& [index, link] : links_) {
    if (!all && link.name != name) continue;
    Answer(LinkMessage(index, link), request.nlmsg_seq);
    found = true;
  }
  return found ? 0 : ENODEV;
}

int FakeKernel::ChangeQdisc(nlmsghdr& request) {
  const QdiscAnswer wanted = *haven::ReadQdisc(request);
  const auto found = links_.find(wanted.ifindex);
  if (found == links_.end()) return ENODEV;
  Link& link = found->second;
  const bool create = (request.nlmsg_flags & NLM_F_CREATE) != 0;
  if (wanted.parent == TC_H_INGRESS) {
    if (create && !link.ingress.empty()) return EEXIST;
    if (!create && link.ingress.empty()) return ENOENT;
    link.ingress = create ? wanted.kind : "";
    link.preference = 0;
    return 0;
  }
  if (!create && link.root != "plug") return ENOENT;
  const auto options = ValueOf<tc_plug_qopt>(nlmsg_find_attr(&request, sizeof(tcmsg), TCA_OPTIONS));
  if (create) {
    link.held = link.passed = link.dropped = 0;
    link.root = wanted.kind;
    link.open = false;
  } else if (options.action == TCQ_PLUG_BUFFER) {
    link.open = false;
  } else if (options.action == TCQ_PLUG_RELEASE_INDEFINITE) {
    link.open = true;
    Settle(link);
  } else {
    return EINVAL;
  }
  return 0;
}

int FakeKernel::ReadQdisc(nlmsghdr& request) {
  const auto asked = HeaderOf<tcmsg>(request);
  const auto found = links_.find(asked.tcm_ifindex);
  if (found == links_.end()) return ENODEV;
  const Link& link = found->second;
  const bool ingress = asked.tcm_parent == TC_H_INGRESS;
  const std::string& kind = ingress ? link.ingress : link.root;
  if (kind.empty()) return ENOENT;
  tcmsg header = asked;
  header.tcm_handle = kind == "plug" ? kPlugHandle : 0x8001'0000;
  gnet_stats_queue queue = {};
  queue.qlen = static_cast<uint32_t>(link.held);
  queue.backlog = static_cast<uint32_t>(link.held * 100);
  queue.drops = static_cast<uint32_t>(link.dropped);
  gnet_stats_basic basic = {};
  basic.packets = static_cast<uint32_t>(link.passed);
  Answer(NetlinkMessage(RTM_NEWQDISC, 0, header)
             .PutString(TCA_KIND, kind)
             .Begin(TCA_STATS2)
             .Put(TCA_STATS_QUEUE, queue)
             .Put(TCA_STATS_BASIC, basic)
             .End()
             .Take(),
         request.nlmsg_seq);
  return 0;
}

int FakeKernel::ReadStats(nlmsghdr& request) {
  const auto asked = HeaderOf<if_stats_msg>(request);
  const auto found = links_.find(static_cast<int>(asked.ifindex));
  if (found == links_.end()) return ENODEV;
  rtnl_link_stats64 stats = {};
  stats.rx_packets = stats.tx_packets = found->second.passed;
  Answer(NetlinkMessage(RTM_NEWSTATS, 0, asked).Put(IFLA_STATS_LINK_64, stats).Take(),
         request.nlmsg_seq);
  return 0;
}

int FakeKernel::ChangeFilter(nlmsghdr& request) {
  const FilterAnswer wanted = *ReadFilter(request);
  const auto found = links_.find(wanted.ifindex);
  if (found == links_.end()) return ENODEV;
  Link& link = found->second;
  if (request.nlmsg_type == RTM_DELTFILTER) {
    link.preference = 0;
    return 0;
  }
  if (link.ingress.empty()) return EINVAL;
  if (link.preference != 0) return EEXIST;
  link.preference = wanted.preference;
  link.redirection = wanted.ours->redirection;
  if (link.redirection == 0 || redirections.count(link.redirection) == 0) {
    link.redirection = next_action_++;
    redirections[link.redirection] = wanted.ours->target;
  }
  link.drop = next_action_++;
  verdicts[link.drop] = TC_ACT_SHOT;
  return 0;
}

int FakeKernel::ReadFilters(nlmsghdr& request) {
  const auto asked = HeaderOf<tcmsg>(request);
  const auto found = links_.find(asked.tcm_ifindex);
  if (found == links_.end()) return ENODEV;
  const Link& link = found->second;
  if (link.preference == 0) return 0;
  tcmsg header = asked;
  header.tcm_info = TC_H_MAKE(link.preference << 16, htons(ETH_P_ALL));
  Answer(NetlinkMessage(RTM_NEWTFILTER, 0, header).PutString(TCA_KIND, "matchall").Take(),
         request.nlmsg_seq);
  header.tcm_handle = 1;
  tc_mirred redirection = {};
  redirection.index = link.redirection;
  redirection.action = TC_ACT_PIPE;
  redirection.eaction = TCA_EGRESS_REDIR;
  redirection.ifindex = static_cast<uint32_t>(redirections[link.redirection]);
  tc_gact verdict = {};
  verdict.index = link.drop;
  verdict.action = verdicts[link.drop];
  Answer(NetlinkMessage(RTM_NEWTFILTER, 0, header)
             .PutString(TCA_KIND, "matchall")
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
             .Put(TCA_GACT_PARMS, verdict)
             .End()
             .End()
             .End()
             .End()
             .Take(),
         request.nlmsg_seq);
  return 0;
}

int FakeKernel::ChangeAction(nlmsghdr& request) {
  nlattr* entry = nullptr;
  nlattr* table = nlmsg_find_attr(&request, sizeof(tcamsg), TCA_ACT_TAB);
  int left = 0;
  nla_for_each_nested(entry, table, left) {
    const nlattr* kind =
        nla_find(static_cast<nlattr*>(nla_data(entry)), nla_len(entry), TCA_ACT_KIND);
    nlattr* options =
        nla_find(static_cast<nlattr*>(nla_data(entry)), nla_len(entry), TCA_ACT_OPTIONS);
    const nlattr* parameters =
        nla_find(static_cast<nlattr*>(nla_data(options)), nla_len(options), TCA_MIRRED_PARMS);
    if (nla_strcmp(kind, "mirred") == 0) {
      const auto redirection = ValueOf<tc_mirred>(parameters);
      if (redirections.count(redirection.index) == 0) return ENOENT;
      redirections[redirection.index] = static_cast<int>(redirection.ifindex);
    } else {
      const auto verdict = ValueOf<tc_gact>(
          nla_find(static_cast<nlattr*>(nla_data(options)), nla_len(options), TCA_GACT_PARMS));
      verdicts[verdict.index] = verdict.action;
    }
  }
  return 0;
}

}  // namespace haven
