// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_STATUS_TRACKER_H_
#define HAVEN_ENGINE_CONTROL_STATUS_TRACKER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/control/status.h"
#include "engine/control/status_publisher.h"
#include "engine/control/thread_arbiter_port.h"
#include "engine/membership/register_client.h"

namespace haven {

struct StatusIdentity {
  std::string role;
  std::string node_id;
  std::string group;
  std::vector<std::string> guests;
  bool disk_covered = true;
};

// What the statuses of both sides have in common: when something is to be published, and that no
// transition goes without its event. Used from the thread of the loop it belongs to.
class StatusTracker {
 public:
  // Between two statuses that differ in numbers only.
  static constexpr int64_t kPublishNs = 200 * kNsPerMs;
  // An event that equals the last one in state and cause is counted, not recorded, for so long.
  static constexpr int64_t kRepeatNs = 1 * kNsPerSecond;

  // What is passed in outlives the object.
  StatusTracker(StatusIdentity identity, StatusPublisher& publisher, const Clock& clock);

  // Where the group stands; filled in by the side.
  struct Moment {
    std::string state;
    Term term = 0;
    SessionId session = kNoSession;
    LinkNumber link = kNoLink;
    Epoch epoch = kNoEpoch;
  };

  // Something has happened, with or without a transition. `error`: the newest complaint; it becomes
  // part of the first event after it.
  void Happened(const Moment& moment, const std::string& cause, const absl::Status& error);

  // True if `state` is not that of the last event: Happened() is due.
  bool Differs(const std::string& state) const { return state != state_; }

  // True if a status is to be published now. `changed`: numbers have changed since the last one.
  bool PublishDue(bool changed);
  // When to ask again at the latest.
  int64_t NextWakeNs() const { return publish_at_ns_; }

  // The fields that do not depend on the side.
  StatusSnapshot Begin() const;
  void Publish(StatusSnapshot snapshot);

  ArbiterStatus DescribeArbiter(const ThreadArbiterPort& port,
                                const RegisterClient& registers) const;

 private:
  const StatusIdentity identity_;
  StatusPublisher& publisher_;
  const Clock& clock_;

  std::string state_;
  int64_t since_wall_ns_ = 0;
  std::string last_cause_;
  std::string last_detail_;
  int64_t last_event_ns_ = 0;
  uint64_t suppressed_ = 0;
  bool transition_ = true;  // Since the last status.
  int64_t published_ns_ = 0;
  int64_t publish_at_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_TRACKER_H_
