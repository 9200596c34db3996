// SPDX-License-Identifier: Apache-2.0
#include "xen/output/plug_monitor.h"

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "xen/output/vif_names.h"

namespace haven {
namespace {

// Datagrams per look: a host on which more happens between two looks is looked at again.
constexpr int kEventsPerPoll = 256;
// To drop what has come while a buffer was set up; a receive buffer holds fewer.
constexpr int kFlushLimit = 1 << 20;

}  // namespace

PlugMonitor::PlugMonitor(const PlugSpec& spec, std::unique_ptr<NetlinkSocket> events,
                         const Clock& clock)
    : spec_(spec), events_(std::move(events)), clock_(clock), buffer_(kNetlinkReceiveBytes) {}

void PlugMonitor::Flush() {
  for (int i = 0; i < kFlushLimit; ++i) {
    if (events_->Receive(buffer_, 0).error == EAGAIN) return;
  }
}

void PlugMonitor::Watch(const PlugDevices& devices) {
  queues_.assign(devices.queues().begin(), devices.queues().end());
  nics_ = devices.nics();
  action_ = devices.action();
  trouble_.clear();
  intact_ns_ = clock_.NowNs();
  watching_ = true;
}

void PlugMonitor::Ignore() {
  watching_ = false;
  trouble_.clear();
}

absl::Status PlugMonitor::Poll() {
  const int64_t now_ns = clock_.NowNs();
  bool all = false;
  for (int i = 0; i < kEventsPerPoll && !all; ++i) {
    const NetlinkReceived received = events_->Receive(buffer_, 0);
    if (received.error == EAGAIN) {
      all = true;
    } else if (received.error != 0) {
      if (watching_ && trouble_.empty()) {
        trouble_ = absl::StrCat("events of the network devices were lost (",
                                std::strerror(received.error), ")");
      }
      if (received.error != ENOBUFS && received.error != EMSGSIZE) all = true;
    } else {
      auto* message = reinterpret_cast<nlmsghdr*>(buffer_.data());
      int left = static_cast<int>(received.bytes);
      for (; nlmsg_ok(message, left) != 0; message = nlmsg_next(message, &left)) {
        if (watching_ && trouble_.empty()) trouble_ = Judge(*message);
      }
    }
  }
  if (!watching_) return absl::OkStatus();
  if (trouble_.empty()) {
    if (all) intact_ns_ = now_ns;
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("output buffer of ", spec_.group, ": ", trouble_,
                   "; it was last known to be intact ", (now_ns - intact_ns_) / kNsPerMs,
                   " ms ago, and output may have left uncommitted, or be lost, since then"));
}

std::string PlugMonitor::Judge(nlmsghdr& message) {
  if (const std::optional<LinkAnswer> link = ReadLink(message)) {
    return JudgeLink(*link, message.nlmsg_type == RTM_DELLINK);
  }
  if (const std::optional<QdiscAnswer> qdisc = ReadQdisc(message)) return JudgeQdisc(*qdisc);
  if (const std::optional<FilterAnswer> filter = ReadFilter(message)) return JudgeFilter(*filter);
  return JudgeActions(ReadActions(message));
}

std::string PlugMonitor::JudgeLink(const LinkAnswer& link, bool gone) {
  if (const PlugDevices::Queue* queue = QueueOf(link.ifindex)) {
    if (gone) return absl::StrCat("somebody removed ", queue->name, " with what it held");
    // Down and up again, its plug has lost what it held.
    return link.up ? "" : absl::StrCat("somebody set ", queue->name, " down");
  }
  if (PlugDevices::Nic* nic = NicOf(link.ifindex)) {
    if (gone) return absl::StrCat("the NIC ", nic->name, " is gone");
    if (link.xdp) return absl::StrCat("somebody gave the NIC ", nic->name, " an XDP program");
    if (link.up) nic->up = true;
    return link.up || !nic->up ? "" : absl::StrCat("somebody set the NIC ", nic->name, " down");
  }
  const absl::string_view beside = NicBesideEmulated(link.name);
  const bool nic = IsNicOf(link, spec_.domains) ||
                   std::any_of(nics_.begin(), nics_.end(),
                               [&](const PlugDevices::Nic& held) { return held.name == beside; });
  return !gone && nic ? absl::StrCat("the NIC ", link.name, " has come and is not held yet") : "";
}

std::string PlugMonitor::JudgeQdisc(const QdiscAnswer& qdisc) {
  if (const PlugDevices::Queue* queue = QueueOf(qdisc.ifindex)) {
    return absl::StrCat("somebody changed the qdisc of ", queue->name);
  }
  const PlugDevices::Nic* nic = NicOf(qdisc.ifindex);
  if (nic == nullptr || qdisc.parent != TC_H_INGRESS) return "";
  return absl::StrCat("somebody changed the ingress qdisc of the NIC ", nic->name);
}

std::string PlugMonitor::JudgeFilter(const FilterAnswer& filter) const {
  const PlugDevices::Nic* nic = NicOf(filter.ifindex);
  // On the way to the guest, filters are nobody's business.
  const bool from_guest = TC_H_MAJ(filter.parent) == TC_H_MAJ(TC_H_INGRESS) &&
                          TC_H_MIN(filter.parent) != TC_H_MIN(TC_H_MIN_EGRESS);
  if (nic == nullptr || !from_guest) return "";
  return absl::StrCat("somebody changed the ingress filters of the NIC ", nic->name);
}

std::string PlugMonitor::JudgeActions(const std::vector<ActionAnswer>& actions) const {
  for (const ActionAnswer& action : actions) {
    const bool redirection = action.kind == "mirred" && action.number == action_;
    const bool drop = action.kind == "gact" &&
                      std::any_of(nics_.begin(), nics_.end(),
                                  [&](const auto& nic) { return nic.drop == action.number; });
    if (redirection || drop) return "somebody changed the actions of the filters of its NICs";
  }
  return "";
}

const PlugDevices::Queue* PlugMonitor::QueueOf(int ifindex) const {
  for (const PlugDevices::Queue& queue : queues_) {
    if (queue.ifindex == ifindex) return &queue;
  }
  return nullptr;
}

const PlugDevices::Nic* PlugMonitor::NicOf(int ifindex) const {
  for (const PlugDevices::Nic& nic : nics_) {
    if (nic.ifindex == ifindex) return &nic;
  }
  return nullptr;
}

PlugDevices::Nic* PlugMonitor::NicOf(int ifindex) {
  return const_cast<PlugDevices::Nic*>(std::as_const(*this).NicOf(ifindex));
}

}  // namespace haven
