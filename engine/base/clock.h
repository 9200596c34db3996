// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_CLOCK_H_
#define HAVEN_ENGINE_BASE_CLOCK_H_

#include <cstdint>

namespace haven {

inline constexpr int64_t kNsPerUs = 1'000;
inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNsPerSecond = 1'000'000'000;

// Where time comes from. The protocol's state machines take time as an argument of their events;
// the edges that call them read it here, so that the simulation can own it. Implementations are
// thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Nanoseconds since an arbitrary start. Never goes back within one run of the machine. The only
  // time that deadlines and intervals are computed from.
  virtual int64_t NowNs() const = 0;

  // Nanoseconds since 1970-01-01 UTC. Jumps when the administrator or NTP sets the clock: for event
  // logs and people only.
  virtual int64_t WallNs() const = 0;
};

// The kernel's CLOCK_MONOTONIC and CLOCK_REALTIME. Callable from a signal handler.
class SystemClock final : public Clock {
 public:
  // The one instance of the process.
  static const SystemClock& Get();

  int64_t NowNs() const override;
  int64_t WallNs() const override;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_CLOCK_H_
