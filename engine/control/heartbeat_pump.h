// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_HEARTBEAT_PUMP_H_
#define HAVEN_ENGINE_CONTROL_HEARTBEAT_PUMP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/base/thread.h"
#include "engine/control/beat_lane.h"
#include "engine/control/poll_set.h"
#include "engine/control/wake_fd.h"

namespace haven {

// Sends the one-sided heartbeats in a thread of its own, so that a long copy or a slow disk does
// not look like death (DESIGN.md section 7). It does so only as long as the owner has vouched for
// itself: an owner that is stuck falls silent.
class HeartbeatPump {
 public:
  // Between one-sided heartbeats: `wanted_ns`, or a tenth of the detection time if that is 0. At
  // least 1 ms, and not more than a third of the detection time, so that two may be lost.
  static int64_t IntervalFor(int64_t detect_ns, int64_t wanted_ns);
  // Between those on the control channel, which cost the owner's thread more: four times as long,
  // while two still come within the detection time. An owner that wakes so often can always vouch
  // for itself in time.
  static int64_t ChannelIntervalFor(int64_t detect_ns, int64_t interval_ns);

  // `interval_ns` is at least 1 ms (checked). Errors of Thread::Start, PollSet::Create and
  // WakeFd::Create.
  static absl::StatusOr<std::unique_ptr<HeartbeatPump>> Start(int64_t interval_ns);
  ~HeartbeatPump();
  HeartbeatPump(const HeartbeatPump&) = delete;
  HeartbeatPump& operator=(const HeartbeatPump&) = delete;

  // The owner is well until `until_ns` of the system's monotonic clock, and does what `state` says
  // (PrimaryState or BackupState). Any thread; a few instructions.
  void Vouch(int64_t until_ns, uint32_t state) {
    state_.store(state, std::memory_order_relaxed);
    alive_until_ns_.store(until_ns, std::memory_order_relaxed);
  }

  // From here on beats go through `lane`, the first one at once. The next two block for as long as
  // one beat takes; one thread at a time.
  void SetLane(std::unique_ptr<BeatLane> lane);
  // When it returns nobody uses the lane or its link. No-op without a lane.
  void ClearLane();

  // Counter of the last heartbeat sent in `session` on any lane; 0: none.
  uint64_t last_counter(SessionId session) const;

 private:
  HeartbeatPump(int64_t interval_ns, WakeFd wake, PollSet poll)
      : interval_ns_(interval_ns), wake_(std::move(wake)), poll_(std::move(poll)) {}

  void Run();
  void Keep();

  const int64_t interval_ns_;
  // A condition variable would cost a system call more for each beat: to say that it is not waited
  // for any more.
  const WakeFd wake_;
  PollSet poll_;  // Of the thread.
  std::atomic<int64_t> alive_until_ns_{0};
  std::atomic<uint32_t> state_{0};

  mutable std::mutex mutex_;
  std::unique_ptr<BeatLane> lane_;
  SessionId last_session_ = kNoSession;
  uint64_t last_counter_ = 0;
  bool stop_ = false;

  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_HEARTBEAT_PUMP_H_
