// SPDX-License-Identifier: Apache-2.0
//
// Runs inside a guest of the lab: ticks a thousand times a second, and prints every gap between two
// ticks that is at least some milliseconds long, in milliseconds, one a line.
//
//   guest_ticker AT_LEAST_MS SECONDS [TICKS_PER_MS]
//
// What comes in the first two seconds is its own start and the end of the shell that started it,
// and is not told. Measured by the time stamp counter: the kernel's clocks do not count the time
// that the guest is suspended. How fast it counts is measured at the start and printed,
// `ticks_per_ms N`; where the guest may be suspended meanwhile, it has to be given. Linked
// statically, for the guest has no libraries of ours.
#include <poll.h>
#include <time.h>
#include <x86intrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int kTickMs = 1;
constexpr double kSettleMs = 2000;

int64_t NowNs() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

// Ticks of the counter in a millisecond. The guest must not be suspended meanwhile.
double TicksPerMs() {
  const int64_t begin_ns = NowNs();
  const uint64_t begin = __rdtsc();
  int64_t now_ns = begin_ns;
  while (now_ns - begin_ns < kNsPerSecond / 2) now_ns = NowNs();
  return static_cast<double>(__rdtsc() - begin) / (static_cast<double>(now_ns - begin_ns) / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: guest_ticker AT_LEAST_MS SECONDS [TICKS_PER_MS]\n");
    return 2;
  }
  const double at_least_ms = std::atof(argv[1]);
  const double seconds = std::atof(argv[2]);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const double ticks_per_ms = argc == 4 ? std::atof(argv[3]) : TicksPerMs();
  std::printf("ticks_per_ms %.0f\n", ticks_per_ms);
  const double end_ms = kSettleMs + seconds * 1000;
  double last_ms = 0;
  for (const uint64_t begin = __rdtsc(); last_ms < end_ms;) {
    poll(nullptr, 0, kTickMs);
    const double now_ms = static_cast<double>(__rdtsc() - begin) / ticks_per_ms;
    const double gap_ms = now_ms - last_ms;
    if (last_ms >= kSettleMs && gap_ms >= at_least_ms) std::printf("%.1f\n", gap_ms);
    last_ms = now_ms;
  }
  std::printf("end\n");
  return 0;
}
