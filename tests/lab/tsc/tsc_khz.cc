// SPDX-License-Identifier: Apache-2.0
//
// Prints how many thousand times a second this machine's time stamp counter ticks.
//
// QEMU's emulation hands our counter to its guests, whose kernels would measure it with timers that
// come late on a busy machine, and live with clocks that run at ten times the speed.
#include <x86intrin.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "engine/base/clock.h"

namespace haven {
namespace {

struct Sample {
  int64_t time_ns = 0;
  uint64_t ticks = 0;
};

// Both clocks at one moment: of many attempts the one that was disturbed least.
Sample TakeSample() {
  constexpr int kAttempts = 1'000;
  Sample best;
  uint64_t best_width = UINT64_MAX;
  for (int i = 0; i < kAttempts; ++i) {
    const uint64_t before = __rdtsc();
    const int64_t time_ns = SystemClock::Get().NowNs();
    const uint64_t width = __rdtsc() - before;
    if (width >= best_width) continue;
    best_width = width;
    best = {time_ns, before + width / 2};
  }
  return best;
}

uint64_t MeasureKhz() {
  constexpr int64_t kMeasureNs = 200 * kNsPerMs;
  const Sample first = TakeSample();
  Sample last = TakeSample();
  while (last.time_ns - first.time_ns < kMeasureNs) last = TakeSample();
  const auto elapsed_ns = static_cast<double>(last.time_ns - first.time_ns);
  return static_cast<uint64_t>(static_cast<double>(last.ticks - first.ticks) / elapsed_ns * 1e6);
}

}  // namespace
}  // namespace haven

int main() {
  std::printf("%" PRIu64 "\n", haven::MeasureKhz());
  return 0;
}
