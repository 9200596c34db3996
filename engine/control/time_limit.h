// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_TIME_LIMIT_H_
#define HAVEN_ENGINE_CONTROL_TIME_LIMIT_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace haven {

// How long an engine on a slow host may be busy copying and encoding an epoch of so many bytes, and
// answer nobody meanwhile: a second for each whole 256 MiB, at most an hour.
inline constexpr int64_t LongestStepNs(uint64_t epoch_bytes) {
  return static_cast<int64_t>(std::min<uint64_t>(epoch_bytes >> 28, 3600)) * kNsPerSecond;
}

// How long a backup on a slow host may take beyond what it takes for a small guest, to build copies
// of so many pages: a second for each whole GiB, at most an hour.
inline constexpr int64_t LongestBuildNs(uint64_t pages) {
  return static_cast<int64_t>(std::min<uint64_t>(pages >> 18, 3600)) * kNsPerSecond;
}

// The end of an attempt that consists of several steps that block, on the system's clock. A value
// type.
class TimeLimit {
 public:
  // From now on; negative: passed already. Cut to a day.
  explicit TimeLimit(absl::Duration timeout)
      : end_ns_(SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(std::clamp(
                                                 timeout, absl::ZeroDuration(), absl::Hours(24)))) {
  }

  // Never negative.
  absl::Duration Remaining() const {
    return absl::Nanoseconds(std::max<int64_t>(0, end_ns_ - SystemClock::Get().NowNs()));
  }
  // What one step may take of it.
  absl::Duration Step(absl::Duration most) const { return std::min(Remaining(), most); }
  bool Passed() const { return Remaining() == absl::ZeroDuration(); }
  // For poll(2), rounded up so that a last fraction does not spin.
  int PollMs() const {
    return static_cast<int>(absl::ToInt64Milliseconds(Remaining() + absl::Microseconds(999)));
  }

 private:
  int64_t end_ns_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_TIME_LIMIT_H_
