// SPDX-License-Identifier: Apache-2.0
#include "engine/control/heartbeat_pump.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// A quarter of what a stuck owner is given (PrimaryDriverOptions, BackupDriverOptions).
constexpr int64_t kChannelMaxNs = 250 * kNsPerMs;

}  // namespace

int64_t HeartbeatPump::IntervalFor(int64_t detect_ns, int64_t wanted_ns) {
  if (wanted_ns == 0) return std::max(detect_ns / 10, 1 * kNsPerMs);
  return std::max(std::min(wanted_ns, detect_ns / 3), 1 * kNsPerMs);
}

int64_t HeartbeatPump::ChannelIntervalFor(int64_t detect_ns, int64_t interval_ns) {
  return std::max(std::min({4 * interval_ns, detect_ns * 2 / 5, kChannelMaxNs}), 1 * kNsPerMs);
}

absl::StatusOr<std::unique_ptr<HeartbeatPump>> HeartbeatPump::Start(int64_t interval_ns) {
  HAVEN_CHECK_GE(interval_ns, 1 * kNsPerMs);
  HAVEN_ASSIGN_OR_RETURN(WakeFd wake, WakeFd::Create());
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  HAVEN_RETURN_IF_ERROR(poll.Add(wake.fd()));
  std::unique_ptr<HeartbeatPump> pump(
      new HeartbeatPump(interval_ns, std::move(wake), std::move(poll)));
  HAVEN_ASSIGN_OR_RETURN(pump->thread_,
                         Thread::Start("haven-beats", [self = pump.get()] { self->Run(); }));
  return pump;
}

HeartbeatPump::~HeartbeatPump() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.Signal();
  thread_.Join();
}

void HeartbeatPump::SetLane(std::unique_ptr<BeatLane> lane) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Keep();
  lane_ = std::move(lane);
  wake_.Signal();
}

void HeartbeatPump::ClearLane() {
  const std::lock_guard<std::mutex> lock(mutex_);
  Keep();
  lane_.reset();
}

void HeartbeatPump::Keep() {
  if (lane_ == nullptr) return;
  last_session_ = lane_->session();
  last_counter_ = lane_->counter();
}

uint64_t HeartbeatPump::last_counter(SessionId session) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (lane_ != nullptr && lane_->session() == session) return lane_->counter();
  return last_session_ == session ? last_counter_ : 0;
}

// A lane that is set wakes the thread, and is used at once.
void HeartbeatPump::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    int64_t next_ns = std::numeric_limits<int64_t>::max();
    if (lane_ != nullptr) {
      const int64_t now_ns = SystemClock::Get().NowNs();
      next_ns = now_ns + interval_ns_;
      if (now_ns < alive_until_ns_.load(std::memory_order_relaxed)) {
        lane_->Beat(state_.load(std::memory_order_relaxed));
      }
    }
    lock.unlock();
    poll_.WaitUntil(next_ns);
    wake_.Clear();
    lock.lock();
  }
}

}  // namespace haven
