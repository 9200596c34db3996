// SPDX-License-Identifier: Apache-2.0
#include "engine/base/clock.h"

#include <time.h>

namespace haven {
namespace {

int64_t ReadClockNs(clockid_t clock) {
  timespec now;
  // Fails only for a clock the kernel does not know or a bad address: neither can happen with these
  // two.
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

constinit const SystemClock g_system_clock;

}  // namespace

const SystemClock& SystemClock::Get() { return g_system_clock; }

int64_t SystemClock::NowNs() const { return ReadClockNs(CLOCK_MONOTONIC); }

int64_t SystemClock::WallNs() const { return ReadClockNs(CLOCK_REALTIME); }

}  // namespace haven
