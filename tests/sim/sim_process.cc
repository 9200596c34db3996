// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_process.h"

#include <algorithm>
#include <utility>

#include "engine/base/byte_order.h"

namespace haven {

SealKey SimSealKey(SessionId session) {
  SealKey key = {};
  StoreLe64(key.data(), session);
  return key;
}

void SimLoop::RunAt(int64_t when_ns) {
  if (scheduled_ns_ <= when_ns) return;
  scheduled_ns_ = when_ns;
  scheduler_.At(when_ns, [this, when_ns, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && scheduled_ns_ == when_ns) Run();
  });
}

void SimLoop::Wake() { RunAt(scheduler_.now_ns() + 1 * kNsPerUs + delay_ns_); }

void SimLoop::HangUntil(int64_t until_ns) { hung_until_ns_ = std::max(hung_until_ns_, until_ns); }

void SimLoop::Run() {
  scheduled_ns_ = kNever;
  if (hung()) return RunAt(hung_until_ns_);
  const std::weak_ptr<bool> alive = alive_;
  poll_();
  if (alive.expired()) return;
  const int64_t next_ns = next_wake_();
  if (next_ns == kNever) return;
  RunAt(std::max(clock_.ToSimNs(next_ns), scheduler_.now_ns() + 1 * kNsPerUs + delay_ns_));
}

void SimChannel::Send(const std::shared_ptr<SimChannel>& channel, int from,
                      std::function<void()> arrive) {
  if (channel == nullptr || !channel->up()) return;
  SimNetwork& network = channel->network_;
  const int to = 1 - from;
  if (!network.Up(from, to, SimPath::kChannel)) return;
  int64_t& last_ns = channel->last_ns_[from];
  last_ns = std::max(last_ns + 1, network.scheduler().now_ns() + network.DelayNs());
  network.scheduler().At(last_ns, [channel, from, to, arrive = std::move(arrive)] {
    if (channel->up_ && channel->network_.Up(from, to, SimPath::kChannel)) arrive();
  });
}

void SimPump::SetLane(std::unique_ptr<BeatLane> lane) {
  Keep();
  lane_ = std::move(lane);
  Beat(++lanes_);
}

void SimPump::ClearLane() {
  Keep();
  lane_.reset();
  ++lanes_;
}

void SimPump::Keep() {
  if (lane_ == nullptr) return;
  last_session_ = lane_->session();
  last_counter_ = lane_->counter();
}

uint64_t SimPump::last_counter(SessionId session) const {
  if (lane_ != nullptr && lane_->session() == session) return lane_->counter();
  return last_session_ == session ? last_counter_ : 0;
}

void SimPump::Beat(uint64_t lane) {
  if (lane != lanes_) return;
  if (clock_.NowNs() < alive_until_ns_) lane_->Beat(state_);
  scheduler_.After(interval_ns_, [this, lane, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) Beat(lane);
  });
}

}  // namespace haven
