// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_MANUAL_CLOCK_H_
#define HAVEN_ENGINE_BASE_MANUAL_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace haven {

// A clock for tests and simulation that moves only when it is told to. Thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t now_ns = 0, int64_t wall_ns = 0)
      : now_ns_(now_ns), wall_ns_(wall_ns) {}

  int64_t NowNs() const override { return now_ns_.load(); }
  int64_t WallNs() const override { return wall_ns_.load(); }

  // Moves both times forward; `ns` is not negative.
  void AdvanceNs(int64_t ns) {
    HAVEN_CHECK_GE(ns, 0);
    now_ns_ += ns;
    wall_ns_ += ns;
  }

  // Sets the wall clock alone, forward or back, as an administrator or NTP would.
  void SetWallNs(int64_t wall_ns) { wall_ns_ = wall_ns; }

 private:
  std::atomic<int64_t> now_ns_;
  std::atomic<int64_t> wall_ns_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_MANUAL_CLOCK_H_
