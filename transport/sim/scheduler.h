// SPDX-License-Identifier: Apache-2.0
//
// Simulated time: one thread, events in the order of their time, ties in the order of their making.
#ifndef HAVEN_TRANSPORT_SIM_SCHEDULER_H_
#define HAVEN_TRANSPORT_SIM_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace haven {

class Scheduler {
 public:
  int64_t now_ns() const { return now_ns_; }

  void At(int64_t when_ns, std::function<void()> run) {
    events_.push(Event{when_ns < now_ns_ ? now_ns_ : when_ns, next_order_++, std::move(run)});
  }
  void After(int64_t delay_ns, std::function<void()> run) {
    At(now_ns_ + delay_ns, std::move(run));
  }

  // Forgets what is still to come: for the end, as events own parts of the world they belong to.
  void Clear() { events_ = {}; }

  // Runs the next event. False: there is none before `end_ns`, and the time is now `end_ns`.
  bool Step(int64_t end_ns) {
    if (events_.empty() || events_.top().when_ns > end_ns) {
      now_ns_ = end_ns;
      return false;
    }
    Event event = std::move(const_cast<Event&>(events_.top()));
    events_.pop();
    // A world in which everything happens at once has an engine that never waits.
    at_this_time_ = event.when_ns == now_ns_ ? at_this_time_ + 1 : 0;
    HAVEN_CHECK_LT(at_this_time_, 20000) << "time stands still at " << now_ns_ << " ns";
    now_ns_ = event.when_ns;
    event.run();
    return true;
  }

 private:
  struct Event {
    int64_t when_ns;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {
      return when_ns != other.when_ns ? when_ns > other.when_ns : order > other.order;
    }
  };

  int64_t now_ns_ = 0;
  uint64_t next_order_ = 0;
  int at_this_time_ = 0;
  std::priority_queue<Event> events_;
};

// One host's clock: simulated time plus jumps of its own. Only forward, as CLOCK_MONOTONIC.
class SimClock final : public Clock {
 public:
  explicit SimClock(const Scheduler& scheduler) : scheduler_(scheduler) {}
  int64_t NowNs() const override { return scheduler_.now_ns() + offset_ns_; }
  int64_t WallNs() const override { return NowNs(); }
  void JumpNs(int64_t ns) { offset_ns_ += ns; }
  // Time of this clock in simulated time.
  int64_t ToSimNs(int64_t local_ns) const { return local_ns - offset_ns_; }

 private:
  const Scheduler& scheduler_;
  int64_t offset_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SIM_SCHEDULER_H_
