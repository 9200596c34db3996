// SPDX-License-Identifier: Apache-2.0
//
// How the pause depends on the size of the guest: the bitmap and the planning of an epoch alone,
// for guests that no machine here could hold. No page is copied.
//
//   guest    size of the guest in GiB
//   pages    dirty pages, spread over all of it
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "bench/bench_guest.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/primary/dirty_sets.h"
#include "engine/primary/dirty_words.h"
#include "engine/primary/epoch_plan.h"
#include "engine/replica/layout.h"

namespace haven {
namespace {

// What nobody can avoid: reading every word of `words` once, from wherever it is after the rest.
int64_t ReadOnceNs(std::span<const uint64_t> words, const Clock& clock) {
  const int64_t begin_ns = clock.NowNs();
  uint64_t any = 0;
  for (const uint64_t word : words) any |= word;
  benchmark::DoNotOptimize(any);
  return clock.NowNs() - begin_ns;
}

// `bitmap_us`: a dirty log of the guest's size is ORed in and cleared, as a domain does after the
// hypervisor has handed it over. `plan_us`: runs found, laid out and taken. Both are within the
// pause. `drop_us`: what is in flight is forgotten, after the acknowledgement. `read_us`: a bitmap
// of that size read once, for comparison: bitmap_us has to read the log, plan_us what is pending.
void BM_Plan(benchmark::State& state) {
  const uint64_t guest_pages = static_cast<uint64_t>(state.range(0)) << 18;
  const std::vector<Gfn> frames =
      SpreadFrames(guest_pages, static_cast<uint64_t>(state.range(1)), 1);
  const size_t words = static_cast<size_t>(guest_pages / 64);
  const GuestMemory memory(
      std::vector<std::byte*>(static_cast<size_t>(guest_pages / GuestMemory::kChunkPages)),
      std::vector<uint64_t>(words, ~uint64_t{0}), guest_pages);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  const uint32_t max_state[] = {16384};
  EpochPlan plan(kDefaultSlotBytes, static_cast<uint32_t>(frames.size() / 63 + 2), max_state);
  std::vector<uint64_t> log(words);
  std::vector<uint64_t> other(words);

  const Clock& clock = SystemClock::Get();
  int64_t bitmap_ns = 0;
  int64_t plan_ns = 0;
  int64_t drop_ns = 0;
  int64_t read_ns = 0;
  while (state.KeepRunning()) {
    for (const Gfn gfn : frames) log[gfn / 64] |= uint64_t{1} << (gfn % 64);
    const int64_t begin_ns = clock.NowNs();
    const std::span<uint64_t> pending = sets.Pending(0);
    MoveDirtyLog(log, pending);
    const int64_t fetched_ns = clock.NowNs();
    HAVEN_CHECK_EQ(static_cast<int>(plan.PlanCheckpoint(sets, plan.max_slots())), 0);
    const int64_t planned_ns = clock.NowNs();
    sets.DropInflight();
    drop_ns += clock.NowNs() - planned_ns;
    plan_ns += planned_ns - fetched_ns;
    bitmap_ns += fetched_ns - begin_ns;
    state.SetIterationTime(static_cast<double>(planned_ns - begin_ns) * 1e-9);
    read_ns += ReadOnceNs(other, clock);
  }
  HAVEN_CHECK_EQ(plan.pages(), frames.size());
  const auto mean_us = [&state](int64_t ns) {
    return static_cast<double>(ns) * 1e-3 / static_cast<double>(state.iterations());
  };
  state.counters["bitmap_us"] = mean_us(bitmap_ns);
  state.counters["plan_us"] = mean_us(plan_ns);
  state.counters["drop_us"] = mean_us(drop_ns);
  state.counters["read_us"] = mean_us(read_ns);
}
BENCHMARK(BM_Plan)
    ->ArgNames({"guest", "pages"})
    ->ArgsProduct({{1, 8, 64, 256, 1024}, {0, 1024, 16384, 65536, 262144}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace haven
