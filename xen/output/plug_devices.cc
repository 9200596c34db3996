// SPDX-License-Identifier: Apache-2.0
#include "xen/output/plug_devices.h"

#include <linux/pkt_sched.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "xen/output/output_requests.h"
#include "xen/output/vif_names.h"

namespace haven {
namespace {

// An ifb stops its queue when this many packets wait for its softirq; its default of 32 would make
// a released epoch leave in small steps.
constexpr uint32_t kIfbQueuePackets = 1000;

absl::Status NeedsModule(const absl::Status& status, absl::string_view module) {
  if (!absl::IsNotFound(status) && !absl::IsUnimplemented(status)) return status;
  return absl::FailedPreconditionError(absl::StrCat(
      std::string(status.message()), "; if this kernel lacks a module: modprobe -a ", module,
      " (of a kernel that has them: Debian's linux-image-amd64 does, its -cloud- kernels do not)"));
}

}  // namespace

std::string PlugDeviceName(const std::string& group, size_t queue) {
  const auto* bytes = reinterpret_cast<const std::byte*>(group.data());
  return absl::StrFormat("hvn%08x.%d", Crc32c(std::span(bytes, group.size())), queue);
}

PlugDevices::PlugDevices(const PlugSpec& spec, NetlinkChannel& channel)
    : spec_(spec), channel_(channel) {
  for (size_t i = 0; i < kQueues; ++i) queues_[i].name = PlugDeviceName(spec.group, i);
  for (const std::string& device : spec.devices) nics_.push_back(Nic{.name = device});
}

std::string PlugDevices::Alias() const {
  return absl::StrCat("haven-engine output of ", spec_.group);
}

bool PlugDevices::found() const {
  return std::any_of(queues_.begin(), queues_.end(),
                     [](const Queue& q) { return q.ifindex != 0; }) ||
         std::any_of(nics_.begin(), nics_.end(), [](const Nic& nic) { return nic.filtered; });
}

absl::StatusOr<std::optional<LinkAnswer>> PlugDevices::FindLink(const std::string& name) {
  std::optional<LinkAnswer> link;
  const absl::Status status = channel_.Get(
      GetLinkRequest(name), [&](nlmsghdr& message) { link = ReadLink(message); },
      absl::StrCat("network device ", name));
  if (absl::IsNotFound(status)) return std::optional<LinkAnswer>();
  HAVEN_RETURN_IF_ERROR(status);
  return link;
}

absl::Status PlugDevices::Find() {
  problem_ = absl::OkStatus();
  for (Queue& queue : queues_) HAVEN_RETURN_IF_ERROR(FindQueue(queue));
  for (Nic& nic : nics_) HAVEN_RETURN_IF_ERROR(FindNic(nic));
  FindRedirection();
  return absl::OkStatus();
}

void PlugDevices::FindRedirection() {
  action_ = 0;
  target_ = 0;
  current_ = 0;
  for (Nic& nic : nics_) {
    if (!nic.filtered) continue;
    const auto queue = std::find_if(queues_.begin(), queues_.end(),
                                    [&](const Queue& q) { return q.ifindex == nic.target; });
    const bool found = nic.target != 0 && queue != queues_.end();
    // One that points nowhere drops everything; one that we know may have been turned away.
    if (!found && nic.target != 0 && nic.redirection != verified_action_) {
      nic.filtered = false;
      problem_.Update(absl::FailedPreconditionError(absl::StrCat(
          "output buffer of ", spec_.group, ": what comes from ", nic.name,
          " goes into a device that is not of this group; end the other protection of its guest")));
    } else if (action_ != 0 && action_ != nic.redirection) {
      problem_.Update(absl::FailedPreconditionError(
          absl::StrCat("output buffer of ", spec_.group, ": ", nic.name,
                       " is held apart from the group's other NICs; end its other protection")));
    } else {
      action_ = nic.redirection;
      if (!found) continue;
      target_ = nic.target;
      current_ = static_cast<size_t>(queue - queues_.begin());
    }
  }
}

absl::Status PlugDevices::FindQueue(Queue& queue) {
  HAVEN_ASSIGN_OR_RETURN(const std::optional<LinkAnswer> link, FindLink(queue.name));
  queue.ifindex = link ? link->ifindex : 0;
  queue.up = link && link->up;
  queue.plugged = false;
  if (!link) return absl::OkStatus();
  // A device without a description is one of ours, left by a death between two requests.
  if (link->kind != "ifb" || (!link->alias.empty() && link->alias != Alias())) {
    return absl::AlreadyExistsError(absl::StrCat(
        "output buffer of ", spec_.group, ": the device ", queue.name, " (", link->kind, ", \"",
        link->alias, "\") belongs to somebody else; remove it, or name the group differently"));
  }
  const absl::Status status = channel_.Get(
      GetRootRequest(queue.ifindex),
      [&](nlmsghdr& message) {
        const std::optional<QdiscAnswer> root = ReadQdisc(message);
        queue.plugged = root && root->kind == "plug" && root->handle == kPlugHandle;
      },
      absl::StrCat("root qdisc of ", queue.name));
  // A device without a qdisc of its own has nothing to answer.
  if (absl::IsNotFound(status) || absl::IsFailedPrecondition(status)) return absl::OkStatus();
  return status;
}

absl::Status PlugDevices::FindNic(Nic& nic) {
  nic.filtered = false;
  HAVEN_ASSIGN_OR_RETURN(const std::optional<LinkAnswer> link, FindLink(nic.name));
  nic.ifindex = link ? link->ifindex : 0;
  nic.up = link && link->up;
  if (!link) return absl::OkStatus();
  const std::string what = absl::StrCat("output buffer of ", spec_.group, ": ", nic.name);
  if (link->xdp) {
    problem_.Update(absl::FailedPreconditionError(absl::StrCat(
        what, " has an XDP program, which sees packets before they can be held: ip link set ",
        nic.name, " xdp off xdpgeneric off")));
  }
  return channel_.Dump(
      DumpFiltersRequest(nic.ifindex),
      [&](nlmsghdr& message) {
        const std::optional<FilterAnswer> filter = ReadFilter(message);
        if (!filter || filter->header) return;
        if (!filter->ours) {
          problem_.Update(absl::FailedPreconditionError(absl::StrCat(
              what, " has an ingress filter of somebody else (preference ", filter->preference,
              "), which would not see what was held: tc qdisc del dev ", nic.name,
              " ingress, and filter on the bridge instead")));
          return;
        }
        nic.filtered = true;
        nic.redirection = filter->ours->redirection;
        nic.target = filter->ours->target;
        nic.drop = filter->ours->drop;
        nic.intact = filter->ours->intact;
      },
      absl::StrCat("ingress filters of ", nic.name));
}

absl::Status PlugDevices::EnsureQueues() {
  HAVEN_RETURN_IF_ERROR(Find());
  HAVEN_RETURN_IF_ERROR(problem_);
  leaked_ = target_ != 0 && !queues_[current_].plugged;
  for (Queue& queue : queues_) HAVEN_RETURN_IF_ERROR(EnsureQueue(queue));
  return absl::OkStatus();
}

absl::Status PlugDevices::Ensure() {
  HAVEN_RETURN_IF_ERROR(EnsureQueues());
  for (Nic& nic : nics_) HAVEN_RETURN_IF_ERROR(EnsureFilter(nic));
  return absl::OkStatus();
}

absl::Status PlugDevices::EnsureQueue(Queue& queue) {
  if (queue.ifindex == 0) {
    HAVEN_RETURN_IF_ERROR(NeedsModule(
        channel_.Command(CreateIfbRequest(queue.name), absl::StrCat("new ifb ", queue.name)),
        "ifb"));
    HAVEN_RETURN_IF_ERROR(FindQueue(queue));
  }
  if (!queue.plugged) {
    HAVEN_RETURN_IF_ERROR(
        NeedsModule(channel_.Command(AddPlugRequest(queue.ifindex, spec_.limit_bytes),
                                     absl::StrCat("plug of ", queue.name)),
                    "sch_plug"));
    queue.plugged = true;
  }
  // Without it the host's own packets, which go nowhere, would be counted as held.
  channel_.Command(SilenceIfbRequest(queue.ifindex), "IPv6 of an ifb").IgnoreError();
  HAVEN_RETURN_IF_ERROR(channel_.Command(RaiseIfbRequest(queue.ifindex, Alias(), kIfbQueuePackets),
                                         absl::StrCat("setting ", queue.name, " up")));
  queue.up = true;
  return absl::OkStatus();
}

absl::Status PlugDevices::EnsureFilter(Nic& nic) {
  if (nic.ifindex == 0) {
    return absl::NotFoundError(
        absl::StrCat("output buffer of ", spec_.group, ": there is no network device ", nic.name));
  }
  if (nic.filtered) return nic.intact && target_ != 0 ? absl::OkStatus() : RepairFilter(nic);
  // Something without filters may be there: ours, left by a death between two requests.
  const absl::Status place =
      channel_.Command(AddIngressRequest(nic.ifindex), absl::StrCat("ingress qdisc of ", nic.name));
  if (!absl::IsAlreadyExists(place)) {
    HAVEN_RETURN_IF_ERROR(NeedsModule(place, "sch_ingress"));
  }
  HAVEN_RETURN_IF_ERROR(NeedsModule(
      channel_.Command(AddFilterRequest(nic.ifindex, queues_[current_].ifindex, action_),
                       absl::StrCat("ingress filter of ", nic.name)),
      "cls_matchall act_mirred act_gact"));
  // The kernel numbers the first redirection; the other NICs share it.
  HAVEN_RETURN_IF_ERROR(FindNic(nic));
  FindRedirection();
  return absl::OkStatus();
}

// A redirection that points nowhere drops everything, so there is no hurry; in an action that was
// changed there is, and its filter stays where it is meanwhile.
absl::Status PlugDevices::RepairFilter(const Nic& nic) {
  HAVEN_RETURN_IF_ERROR(channel_.Command(RedirectRequest(action_, queues_[current_].ifindex),
                                         absl::StrCat("redirection of ", nic.name)));
  return channel_.Command(DropRequest(nic.drop), absl::StrCat("drop action of ", nic.name));
}

absl::StatusOr<std::vector<std::string>> PlugDevices::UnknownNics() {
  HAVEN_ASSIGN_OR_RETURN(std::vector<std::string> names, FindNics(channel_, spec_.domains));
  std::erase_if(names, [&](const std::string& name) {
    return std::any_of(nics_.begin(), nics_.end(),
                       [&](const Nic& nic) { return nic.name == name; });
  });
  return names;
}

absl::Status PlugDevices::FollowNics() {
  for (Nic& nic : nics_) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<LinkAnswer> link, FindLink(nic.name));
    nic.ifindex = link ? link->ifindex : 0;
  }
  std::erase_if(nics_, [](const Nic& nic) { return nic.ifindex == 0; });
  HAVEN_ASSIGN_OR_RETURN(std::vector<std::string> names, UnknownNics());
  for (std::string& name : names) nics_.push_back(Nic{.name = std::move(name)});
  if (!nics_.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("output buffer of ", spec_.group, ": its guests have no NIC any more"));
}

absl::Status PlugDevices::Verify() {
  HAVEN_RETURN_IF_ERROR(Find());
  HAVEN_RETURN_IF_ERROR(problem_);
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> unknown, UnknownNics());
  if (!unknown.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("output buffer of ", spec_.group, ": the guests also have the NICs ",
                     absl::StrJoin(unknown, ", "), ", which nobody holds; name them, too"));
  }
  std::vector<std::string> missing;
  for (const Queue& queue : queues_) {
    if (queue.ifindex == 0 || !queue.up || !queue.plugged) missing.push_back(queue.name);
  }
  for (const Nic& nic : nics_) {
    if (!nic.filtered || !nic.intact) missing.push_back(nic.name);
  }
  if (target_ == 0) missing.push_back("the redirection of its NICs");
  verified_action_ = action_;
  if (missing.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("output buffer of ", spec_.group, ": somebody changed ",
                   absl::StrJoin(missing, ", "), " while the buffer was set up"));
}

absl::Status PlugDevices::RemoveFilters() {
  HAVEN_RETURN_IF_ERROR(Find());
  for (Nic& nic : nics_) {
    if (nic.filtered) HAVEN_RETURN_IF_ERROR(RemoveFilter(nic));
  }
  return absl::OkStatus();
}

absl::Status PlugDevices::RemoveFilter(Nic& nic) {
  const absl::Status removed = channel_.Command(DeleteFilterRequest(nic.ifindex),
                                                absl::StrCat("end of the filter of ", nic.name));
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  nic.filtered = false;
  // Ours is called ingress. A clsact was there before, perhaps with filters for the other
  // direction.
  bool ours = false;
  const absl::Status asked = channel_.Get(
      GetIngressRequest(nic.ifindex),
      [&](nlmsghdr& message) {
        const std::optional<QdiscAnswer> place = ReadQdisc(message);
        ours = place && place->kind == "ingress";
      },
      absl::StrCat("ingress qdisc of ", nic.name));
  if (!asked.ok() || !ours) return absl::OkStatus();
  const absl::Status ended = channel_.Command(
      DeleteIngressRequest(nic.ifindex), absl::StrCat("end of the ingress qdisc of ", nic.name));
  return absl::IsNotFound(ended) ? absl::OkStatus() : ended;
}

absl::Status PlugDevices::DeleteQueues() {
  for (Queue& queue : queues_) {
    HAVEN_RETURN_IF_ERROR(FindQueue(queue));
    if (queue.ifindex == 0) continue;
    const absl::Status status =
        channel_.Command(DeleteLinkRequest(queue.ifindex), absl::StrCat("end of ", queue.name));
    if (!status.ok() && !absl::IsNotFound(status)) return status;
    queue = Queue{.name = queue.name};
  }
  return absl::OkStatus();
}

absl::StatusOr<QdiscAnswer> PlugDevices::ReadQueue(size_t queue) {
  std::optional<QdiscAnswer> root;
  HAVEN_RETURN_IF_ERROR(channel_.Get(
      GetRootRequest(queues_[queue].ifindex), [&](nlmsghdr& message) { root = ReadQdisc(message); },
      absl::StrCat("root qdisc of ", queues_[queue].name)));
  if (!root || root->kind != "plug" || root->handle != kPlugHandle) {
    return absl::FailedPreconditionError(absl::StrCat(queues_[queue].name, " has lost its plug"));
  }
  return *root;
}

}  // namespace haven
