// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_PACER_H_
#define HAVEN_ENGINE_SYNTHETIC_PACER_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "engine/base/clock.h"

namespace haven {

// Says when events of a steady rate are due. Who falls behind catches up by a bounded burst only;
// the rest is given up. Not thread-safe.
class Pacer {
 public:
  // What may be caught up with, in time.
  static constexpr int64_t kMaxBurstNs = 10 * kNsPerMs;

  // `rate` is in events a second, at most 10^9; 0 means never.
  Pacer(uint64_t rate, int64_t now_ns) : rate_(rate), last_ns_(now_ns) {}

  // Lets time go on to `now_ns`.
  void Advance(int64_t now_ns) {
    // Beyond one second every rate has at least one event due.
    const int64_t elapsed_ns =
        std::clamp<int64_t>(now_ns - last_ns_, 0, kNsPerSecond + kMaxBurstNs);
    last_ns_ = now_ns;
    credit_ = std::min(credit_ + static_cast<uint64_t>(elapsed_ns) * rate_,
                       kEventCredit + static_cast<uint64_t>(kMaxBurstNs) * rate_);
  }

  // The time up to `now_ns` does not count.
  void Skip(int64_t now_ns) { last_ns_ = now_ns; }

  // True if an event is due, which is taken.
  bool Take() {
    if (credit_ < kEventCredit) return false;
    credit_ -= kEventCredit;
    return true;
  }

  // When the next event is due.
  int64_t NextNs() const {
    if (credit_ >= kEventCredit) return last_ns_;
    if (rate_ == 0) return std::numeric_limits<int64_t>::max();
    return last_ns_ + static_cast<int64_t>((kEventCredit - credit_ + rate_ - 1) / rate_);
  }

 private:
  // Credit is counted in events times nanoseconds of a second, so that no rate is rounded.
  static constexpr uint64_t kEventCredit = kNsPerSecond;

  const uint64_t rate_;
  int64_t last_ns_;
  uint64_t credit_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_PACER_H_
