// SPDX-License-Identifier: Apache-2.0
#include "xen/output/plug_output.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "xen/output/output_requests.h"

namespace haven {
namespace {

// The name of a group also stands in the description of a device, of at most 256 bytes.
constexpr size_t kGroupNameMax = 200;

}  // namespace

PlugOutput::PlugOutput(const PlugSpec& spec, std::unique_ptr<NetlinkSocket> requests,
                       std::unique_ptr<NetlinkSocket> events, const Clock& clock)
    : spec_(spec),
      clock_(clock),
      channel_(std::move(requests), clock, spec.timeout_ns),
      devices_(spec, channel_),
      monitor_(spec, std::move(events), clock),
      note_passage_([this](nlmsghdr& message) {
        const std::optional<PassageAnswer> answer = ReadPassage(message);
        if (!answer) return;
        passage_.inside_packets += answer->inside_packets;
        passage_.passed_packets += answer->passed_packets;
      }) {}

absl::StatusOr<std::unique_ptr<PlugOutput>> PlugOutput::Attach(
    const PlugSpec& spec, std::unique_ptr<NetlinkSocket> requests,
    std::unique_ptr<NetlinkSocket> events, const Clock& clock) {
  if (spec.group.empty() || spec.group.size() > kGroupNameMax || spec.devices.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "output buffer of \"", spec.group, "\" with ", spec.devices.size(),
        " NICs: it needs a group's name of at most ", kGroupNameMax, " bytes, and a NIC"));
  }
  std::unique_ptr<PlugOutput> output(
      new PlugOutput(spec, std::move(requests), std::move(events), clock));
  HAVEN_RETURN_IF_ERROR(output->devices_.Find());
  output->state_ = output->devices_.found() ? State::kFound : State::kAbsent;
  return output;
}

absl::StatusOr<std::unique_ptr<PlugOutput>> PlugOutput::Attach(const PlugSpec& spec) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<NetlinkSocket> requests, OpenNetlinkRequests());
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<NetlinkSocket> events,
                         OpenNetlinkEvents(requests->port()));
  return Attach(spec, std::move(requests), std::move(events), SystemClock::Get());
}

absl::Status PlugOutput::Prepare() {
  if (state_ != State::kAbsent) return absl::OkStatus();
  // Half of it done, only Hold, OpenAll or Rebuild can tell what is there.
  state_ = State::kFound;
  HAVEN_RETURN_IF_ERROR(devices_.EnsureQueues());
  for (const PlugDevices::Queue& queue : devices_.queues()) {
    HAVEN_RETURN_IF_ERROR(
        channel_.Command(OpenPlugRequest(queue.ifindex), absl::StrCat("opening ", queue.name)));
  }
  HAVEN_RETURN_IF_ERROR(devices_.Ensure());
  current_ = devices_.current();
  PrepareRequests();
  state_ = State::kOpen;
  return absl::OkStatus();
}

absl::Status PlugOutput::Hold() {
  if (state_ == State::kHolding) return Health();
  const bool found = state_ == State::kFound;
  HAVEN_RETURN_IF_ERROR(Install());
  HAVEN_RETURN_IF_ERROR(CloseAll());
  state_ = State::kHolding;
  taken_over_ = found;
  if (devices_.leaked()) {
    unknown_ = absl::FailedPreconditionError(absl::StrCat(
        "output buffer of ", spec_.group,
        ": its plug was gone when it was taken over; output has left uncommitted until now"));
  }
  return absl::OkStatus();
}

// Ends with everything there, every change of ours behind the monitor, and no change of somebody
// else's overlooked: what comes before the flush is seen by Verify, what comes after it by Poll.
absl::Status PlugOutput::Install() {
  HAVEN_RETURN_IF_ERROR(devices_.Ensure());
  monitor_.Flush();
  HAVEN_RETURN_IF_ERROR(devices_.Verify());
  monitor_.Watch(devices_);
  current_ = devices_.current();
  PrepareRequests();
  unknown_ = absl::OkStatus();
  finished_ = false;
  return absl::OkStatus();
}

void PlugOutput::PrepareRequests() {
  const auto& queues = devices_.queues();
  for (size_t i = 0; i < PlugDevices::kQueues; ++i) {
    open_[i] = OpenPlugRequest(queues[i].ifindex);
    ask_passage_[i] = PassageRequest(queues[i].ifindex);
    redirect_to_[i] = RedirectRequest(devices_.action(), queues[i].ifindex);
    close_before_and_open_[i] =
        Batch(ClosePlugRequest(queues[Before(i)].ifindex), OpenPlugRequest(queues[i].ifindex));
  }
}

absl::Status PlugOutput::CloseAll() {
  // The current one first: it is the one into which packets go.
  for (size_t i = 0, queue = current_; i < PlugDevices::kQueues; ++i, queue = After(queue)) {
    HAVEN_RETURN_IF_ERROR(
        channel_.Command(ClosePlugRequest(devices_.queues()[queue].ifindex),
                         absl::StrCat("closing ", devices_.queues()[queue].name)));
    closed_[queue] = true;
  }
  running_since_ns_ = clock_.NowNs();
  return absl::OkStatus();
}

absl::Status PlugOutput::OpenAll() {
  if (state_ == State::kAbsent) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(devices_.Find());
  current_ = devices_.current();
  bool whole = true;
  for (const PlugDevices::Queue& queue : devices_.queues()) whole = whole && queue.plugged;
  if (!whole) {
    // Nothing holds there, or everything drops: without the filters the NICs work.
    HAVEN_RETURN_IF_ERROR(devices_.RemoveFilters());
    HAVEN_RETURN_IF_ERROR(devices_.DeleteQueues());
    monitor_.Ignore();
    unknown_ = absl::OkStatus();
    finished_ = false;
    state_ = State::kAbsent;
    return absl::OkStatus();
  }
  PrepareRequests();
  unknown_ = OpenQueues();
  HAVEN_RETURN_IF_ERROR(unknown_);
  monitor_.Ignore();
  taken_over_ = false;
  state_ = State::kOpen;
  return absl::OkStatus();
}

absl::Status PlugOutput::OpenQueues() {
  const int64_t deadline_ns = clock_.NowNs() + spec_.drain_ns;
  // Half of it done, only another Hold, OpenAll or Rebuild can tell what is held.
  state_ = State::kFound;
  finished_ = false;
  // From the oldest to the current one, each when the one before it is empty: the order is kept.
  for (size_t i = 0, queue = After(current_); i < PlugDevices::kQueues; ++i, queue = After(queue)) {
    closed_[queue] = false;
    HAVEN_RETURN_IF_ERROR(OpenAndDrain(queue, deadline_ns));
  }
  return absl::OkStatus();
}

// The command is repeated until the queue moves: a packet that arrives on another processor at the
// same moment may put the plug back to sleep (sch_plug.c changes its flags without a lock).
absl::Status PlugOutput::OpenAndDrain(size_t queue, int64_t deadline_ns) {
  const PlugDevices::Queue& device = devices_.queues()[queue];
  uint64_t passed_packets = 0;
  for (int looks = 0;; ++looks) {
    const std::string what = absl::StrCat("opening ", device.name);
    HAVEN_RETURN_IF_ERROR(channel_.Explain(channel_.Transact(open_[queue]), what));
    HAVEN_RETURN_IF_ERROR(channel_.Explain(AskPassage(queue), what));
    if (passage_.inside_packets == 0) return absl::OkStatus();
    const bool moves = looks > 0 && passage_.passed_packets != passed_packets;
    passed_packets = passage_.passed_packets;
    if (clock_.NowNs() > deadline_ns) {
      // A guest that sends without a break is not waited for: its packets move.
      if (moves && queue == current_) return absl::OkStatus();
      return absl::DeadlineExceededError(
          absl::StrCat("output buffer of ", spec_.group, ": ", device.name, " is open, but ",
                       passage_.inside_packets, " packets have not left it within ",
                       spec_.drain_ns / kNsPerMs, " ms"));
    }
    PauseBetweenLooks();
  }
}

// After a takeover the queue before the finished one may hold an epoch whose commit nobody has
// witnessed; it is older than the one that is committed now, and goes first.
absl::Status PlugOutput::ReleaseTakenOver() {
  const int64_t deadline_ns = clock_.NowNs() + spec_.drain_ns;
  const size_t done = Before(current_);
  const size_t next = Before(done);
  unknown_ = OpenAndDrain(next, deadline_ns);
  if (unknown_.ok()) {
    unknown_ = channel_.Command(ClosePlugRequest(devices_.queues()[next].ifindex),
                                absl::StrCat("closing ", devices_.queues()[next].name));
  }
  if (unknown_.ok()) {
    closed_[done] = false;
    unknown_ = OpenAndDrain(done, deadline_ns);
  }
  HAVEN_RETURN_IF_ERROR(unknown_);
  finished_ = false;
  taken_over_ = false;
  return absl::OkStatus();
}

absl::Status PlugOutput::Rebuild() {
  HAVEN_RETURN_IF_ERROR(devices_.FollowNics());
  HAVEN_RETURN_IF_ERROR(Install());
  unknown_ = OpenQueues();
  if (unknown_.ok()) unknown_ = CloseAll();
  HAVEN_RETURN_IF_ERROR(unknown_);
  taken_over_ = false;
  state_ = State::kHolding;
  return absl::OkStatus();
}

absl::Status PlugOutput::Discard() {
  monitor_.Ignore();
  HAVEN_RETURN_IF_ERROR(devices_.DeleteQueues());
  unknown_ = absl::OkStatus();
  finished_ = false;
  state_ = State::kAbsent;
  return absl::OkStatus();
}

absl::Status PlugOutput::Remove() {
  if (state_ == State::kAbsent) return absl::OkStatus();
  if (state_ != State::kOpen) {
    return absl::FailedPreconditionError(absl::StrCat(
        "output buffer of ", spec_.group, ": Remove while it holds; it must be opened first"));
  }
  HAVEN_RETURN_IF_ERROR(devices_.RemoveFilters());
  HAVEN_RETURN_IF_ERROR(WaitUntilEmpty());
  HAVEN_RETURN_IF_ERROR(devices_.DeleteQueues());
  state_ = State::kAbsent;
  return absl::OkStatus();
}

absl::Status PlugOutput::WaitUntilEmpty() {
  const int64_t deadline_ns = clock_.NowNs() + spec_.drain_ns;
  for (size_t queue = 0; queue < PlugDevices::kQueues; ++queue) {
    if (devices_.queues()[queue].ifindex == 0) continue;
    HAVEN_RETURN_IF_ERROR(OpenAndDrain(queue, deadline_ns));
  }
  return absl::OkStatus();
}

absl::Status PlugOutput::Broken(int error, const char* what) {
  unknown_ = channel_.Explain(error, absl::StrCat("output buffer of ", spec_.group, ": ", what));
  return unknown_;
}

absl::Status PlugOutput::Refuse(const char* command) const {
  if (!unknown_.ok()) return unknown_;
  const char* why = "while nothing is held";
  if (state_ == State::kHolding) why = "before the finished epoch was released";
  return absl::FailedPreconditionError(
      absl::StrCat("output buffer of ", spec_.group, ": ", command, " ", why));
}

absl::Status PlugOutput::Health() {
  const absl::Status seen = monitor_.Poll();
  if (!unknown_.ok()) return unknown_;
  return state_ == State::kHolding ? seen : absl::OkStatus();
}

void PlugOutput::CountQueue(size_t queue) {
  Counted& counted = counted_[queue];
  if (devices_.queues()[queue].ifindex == 0) {
    counted.last.held_packets = 0;
    counted.last.held_bytes = 0;
    return;
  }
  const absl::StatusOr<QdiscAnswer> now = devices_.ReadQueue(queue);
  if (!now.ok()) return;  // Health() says what is wrong with it.
  if (now->passed_packets < counted.last.passed_packets ||
      now->dropped_packets < counted.last.dropped_packets) {
    counted.passed_before += counted.last.passed_packets;
    counted.dropped_before += counted.last.dropped_packets;
  }
  counted.last = *now;
  if (closed_[queue] || now->held_packets == 0 || state_ == State::kFound) return;
  // An open plug that holds something has been put back to sleep (OpenAndDrain), or is just busy.
  static_cast<void>(channel_.Transact(open_[queue]));  // Health() says what is wrong with it.
}

OutputStats PlugOutput::stats() {
  OutputStats sum;
  for (size_t queue = 0; queue < PlugDevices::kQueues; ++queue) {
    CountQueue(queue);
    const Counted& counted = counted_[queue];
    sum.held_packets += counted.last.held_packets;
    sum.held_bytes += counted.last.held_bytes;
    sum.released_packets += counted.passed_before + counted.last.passed_packets;
    sum.dropped_packets += counted.dropped_before + counted.last.dropped_packets;
  }
  sum.last_held_ns = counters_.last_held_ns;
  sum.longest_held_ns = counters_.longest_held_ns;
  return sum;
}

const PlugCounters& PlugOutput::counters() {
  counters_.requests = channel_.transactions();
  return counters_;
}

}  // namespace haven
