// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_tracker.h"

#include <unistd.h>

#include <utility>

#include "engine/control/status_file.h"
#include "engine/control/status_words.h"

namespace haven {

StatusTracker::StatusTracker(StatusIdentity identity, StatusPublisher& publisher,
                             const Clock& clock)
    : identity_(std::move(identity)),
      publisher_(publisher),
      clock_(clock),
      since_wall_ns_(clock.WallNs()) {}

void StatusTracker::Happened(const Moment& moment, const std::string& cause,
                             const absl::Status& error) {
  const int64_t now_ns = clock_.NowNs();
  const bool transition = moment.state != state_;
  if (!transition && cause == last_cause_ && now_ns < last_event_ns_ + kRepeatNs) {
    ++suppressed_;
    return;
  }
  const std::string complaint = error.ok() ? "" : std::string(error.message());
  StatusEvent event;
  event.wall_ns = clock_.WallNs();
  event.role = identity_.role;
  event.group = identity_.group;
  event.guests = identity_.guests;
  event.term = moment.term;
  event.session = moment.session;
  event.link = moment.link;
  event.epoch = moment.epoch;
  event.from = state_.empty() ? moment.state : state_;
  event.to = moment.state;
  event.cause = cause;
  if (complaint != last_detail_) event.detail = complaint;
  event.suppressed = std::exchange(suppressed_, 0);
  publisher_.Record(std::move(event));
  last_detail_ = complaint;
  last_cause_ = cause;
  last_event_ns_ = now_ns;
  if (!transition) return;
  state_ = moment.state;
  since_wall_ns_ = clock_.WallNs();
  transition_ = true;
}

bool StatusTracker::PublishDue(bool changed) {
  const int64_t now_ns = clock_.NowNs();
  return transition_ || now_ns >= publish_at_ns_ ||
         (changed && now_ns >= published_ns_ + kPublishNs);
}

StatusSnapshot StatusTracker::Begin() const {
  StatusSnapshot snapshot;
  snapshot.written_ns = clock_.NowNs();
  snapshot.written_wall_ns = clock_.WallNs();
  snapshot.pid = getpid();
  snapshot.role = identity_.role;
  snapshot.node_id = identity_.node_id;
  snapshot.group = identity_.group;
  snapshot.guests = identity_.guests;
  snapshot.disk_covered = identity_.disk_covered;
  snapshot.since_wall_ns = since_wall_ns_;
  return snapshot;
}

void StatusTracker::Publish(StatusSnapshot snapshot) {
  transition_ = false;
  published_ns_ = clock_.NowNs();
  publish_at_ns_ = published_ns_ + kStatusRefreshNs;
  publisher_.Publish(std::move(snapshot));
}

ArbiterStatus StatusTracker::DescribeArbiter(const ThreadArbiterPort& port,
                                             const RegisterClient& registers) const {
  ArbiterStatus status;
  status.name = port.name();
  status.answer = "none";
  status.pending = PurposeWord(registers.purpose());
  const ThreadArbiterPort::LastAnswer& last = port.last_answer();
  if (!last.any) return status;
  status.answer = VerdictName(last.verdict);
  if (last.verdict == Verdict::kUnknown) status.cause = std::string(last.cause.message());
  status.age_ns = clock_.NowNs() - last.at_ns;
  return status;
}

}  // namespace haven
