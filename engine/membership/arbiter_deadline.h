// SPDX-License-Identifier: Apache-2.0
//
// The end of one call to an arbiter.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_DEADLINE_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_DEADLINE_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace haven {

// A point of the monotonic clock. A value type; thread-safe as such.
class Deadline {
 public:
  // No call to an arbiter may wait longer, whatever its caller says: even an infinite timeout ends.
  static constexpr absl::Duration kLongest = absl::Hours(1);

  // `timeout` from now; a negative one has passed already.
  explicit Deadline(absl::Duration timeout)
      : timeout_(std::clamp(timeout, absl::ZeroDuration(), kLongest)),
        end_ns_(SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(timeout_)) {}

  // What the caller asked for, within the limit: for messages.
  absl::Duration timeout() const { return timeout_; }

  // Never negative.
  absl::Duration Remaining() const {
    return absl::Nanoseconds(std::max<int64_t>(0, end_ns_ - SystemClock::Get().NowNs()));
  }
  bool Passed() const { return Remaining() == absl::ZeroDuration(); }

  // Blocks for `interval`, but not beyond the deadline: before another look at what tells nobody
  // that it has changed, such as a lock or a file of another host.
  void Pause(absl::Duration interval) const { absl::SleepFor(std::min(interval, Remaining())); }

  // The remaining time as poll(2) wants it, rounded up so that a last fraction does not spin.
  int RemainingPollMs() const {
    return static_cast<int>(absl::ToInt64Milliseconds(Remaining() + absl::Microseconds(999)));
  }

 private:
  absl::Duration timeout_;
  int64_t end_ns_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_DEADLINE_H_
