// SPDX-License-Identifier: Apache-2.0
//
// The primary's data path from guest memory to chunks.
//
//   pages     dirty pages of the epoch
//   run       of those, adjacent ones
//   threads   threads that work, the caller among them
//   zero      percentage of the pages that are zero
//   guest     size of the guest in GiB
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "bench/bench_guest.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/crc32c.h"
#include "engine/primary/copy_datapath.h"
#include "engine/primary/copy_pool.h"
#include "engine/primary/dirty_sets.h"
#include "engine/primary/epoch_builder.h"
#include "engine/primary/epoch_plan.h"
#include "engine/replica/layout.h"

namespace haven {
namespace {

constexpr uint64_t kGiBPages = uint64_t{1} << 18;
constexpr size_t kStateBytes = 16384;

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

uint32_t SlotsFor(uint64_t pages) {
  return static_cast<uint32_t>(pages / 63 + 2);  // 63 pages fit into a slot of 256 KiB.
}

unsigned Workers(int64_t threads) { return static_cast<unsigned>(threads - 1); }

// A guest with its dirty pages, and what replicates it.
struct Primary {
  Primary(uint64_t guest_pages, uint64_t dirty, uint64_t run, unsigned workers, uint64_t zero_every)
      : guest(guest_pages, SpreadFrames(guest_pages, dirty, run), kStateBytes, zero_every),
        staging(uint64_t{SlotsFor(dirty)} * kDefaultSlotBytes),
        pool(workers) {
    staging.Prefault();
    const GuestMemory* const memories[] = {&guest.memory()};
    sets = std::make_unique<DirtySets>(memories);
    Domain* const domains[] = {&guest};
    builder = std::make_unique<EpochBuilder>(domains, *sets, staging.bytes(), kDefaultSlotBytes,
                                             pool, SystemClock::Get());
  }

  // Fetches and captures the next checkpoint.
  CaptureResult Capture(FetchResult* fetched) {
    guest.DirtyFrames();
    *fetched = builder->Fetch();
    HAVEN_CHECK_OK(fetched->status);
    CaptureResult captured = builder->Capture(EpochKind::kCheckpoint, UINT64_MAX);
    HAVEN_CHECK_EQ(static_cast<int>(captured.outcome), 0);
    return captured;
  }

  EncodeResult Encode() {
    return builder->Encode(
        {.session = 1, .link = 1, .epoch = ++epoch, .kind = EpochKind::kCheckpoint});
  }

  BenchGuest guest;
  BenchMemory staging;
  CopyPool pool;
  std::unique_ptr<DirtySets> sets;
  std::unique_ptr<EpochBuilder> builder;
  Epoch epoch = 0;
};

// CopyPages against a memcpy of each page on its own, from the same pages to the same memory, by as
// many threads, in turn. `ratio` is the median of the rates' quotient: above 1 CopyPages is faster.
void BM_CopyPages(benchmark::State& state) {
  const uint64_t pages = static_cast<uint64_t>(state.range(0));
  Primary primary(2 * kGiBPages, pages, static_cast<uint64_t>(state.range(1)),
                  Workers(state.range(2)), 0);
  const uint32_t max_state[] = {kStateBytes};
  EpochPlan plan(kDefaultSlotBytes, SlotsFor(pages), max_state);
  primary.guest.DirtyFrames();
  HAVEN_CHECK_OK(primary.builder->Fetch().status);
  plan.PlanSync(*primary.sets, plan.max_slots());
  HAVEN_CHECK_EQ(plan.pages(), pages);

  const Clock& clock = SystemClock::Get();
  const std::vector<Gfn>& frames = primary.guest.frames();
  const GuestMemory& memory = primary.guest.memory();
  constexpr uint64_t kItemPages = 63;  // As many as an item of CopyPages has.
  const uint32_t items = static_cast<uint32_t>((pages + kItemPages - 1) / kItemPages);
  const auto scattered = [&] {
    primary.pool.Run(items, [&](uint32_t item) {
      const uint64_t end = std::min(pages, (item + 1) * kItemPages);
      for (uint64_t i = item * kItemPages; i < end; ++i) {
        std::memcpy(primary.staging.data() + i * kPageBytes, memory.Page(frames[i]), kPageBytes);
      }
    });
  };

  std::vector<double> ratios;
  std::vector<double> scattered_seconds;
  std::vector<double> copy_seconds;
  while (state.KeepRunning()) {
    const int64_t begin_ns = clock.NowNs();
    scattered();
    const int64_t middle_ns = clock.NowNs();
    CopyPages(plan, *primary.sets, primary.staging.bytes(), primary.pool);
    const int64_t end_ns = clock.NowNs();
    state.SetIterationTime(Seconds(end_ns - middle_ns));
    scattered_seconds.push_back(Seconds(middle_ns - begin_ns));
    copy_seconds.push_back(Seconds(end_ns - middle_ns));
    ratios.push_back(scattered_seconds.back() / copy_seconds.back());
  }
  const double bytes = static_cast<double>(pages * kPageBytes);
  state.counters["copy_GB/s"] = bytes / Median(copy_seconds) * 1e-9;
  state.counters["memcpy_GB/s"] = bytes / Median(scattered_seconds) * 1e-9;
  state.counters["ratio"] = Median(ratios);
}
BENCHMARK(BM_CopyPages)
    ->ArgNames({"pages", "run", "threads"})
    ->ArgsProduct({{256, 4096, 65536, 262144}, {1, 8, 64}, {1, 2}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

// From captured pages to chunks: zero detection, moving down, headers, CRCs. `crc_ratio`: the time
// that CRC32C alone takes over what remains, against the whole.
void BM_Encode(benchmark::State& state) {
  const uint64_t pages = static_cast<uint64_t>(state.range(0));
  const uint64_t zero_percent = static_cast<uint64_t>(state.range(1));
  Primary primary(2 * kGiBPages, pages, 1, Workers(state.range(2)),
                  zero_percent == 0 ? 0 : 100 / zero_percent);
  const Clock& clock = SystemClock::Get();
  std::vector<double> ratios;
  while (state.KeepRunning()) {
    FetchResult fetched;
    primary.Capture(&fetched);
    const EncodeResult encoded = primary.Encode();
    state.SetIterationTime(Seconds(encoded.encode_ns));
    const std::span<const ChunkTotals> chunks = primary.builder->chunks();
    const int64_t begin_ns = clock.NowNs();
    primary.pool.Run(static_cast<uint32_t>(chunks.size()), [&](uint32_t i) {
      const std::byte* chunk = primary.staging.data() + size_t{i} * kDefaultSlotBytes;
      benchmark::DoNotOptimize(Crc32c({chunk + kChunkHeaderBytes, chunks[i].payload_bytes}));
    });
    ratios.push_back(Seconds(clock.NowNs() - begin_ns) / Seconds(encoded.encode_ns));
    primary.sets->DropInflight();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(pages * kPageBytes));
  state.counters["crc_ratio"] = Median(ratios);
}
BENCHMARK(BM_Encode)
    ->ArgNames({"pages", "zero", "threads"})
    ->ArgsProduct({{4096, 65536}, {0, 10, 50, 100}, {1, 2}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

// All that the engine does while the guest stands still, outside of the domain's own suspend,
// resume and state: `time`. With no dirty page this is the least that an epoch costs; `encode_us`
// comes after the guest runs again.
void BM_Epoch(benchmark::State& state) {
  Primary primary(static_cast<uint64_t>(state.range(0)) * kGiBPages,
                  static_cast<uint64_t>(state.range(1)), 1, Workers(state.range(2)), 0);
  std::vector<double> bitmap;
  std::vector<double> copy;
  std::vector<double> encode;
  while (state.KeepRunning()) {
    FetchResult fetched;
    const CaptureResult captured = primary.Capture(&fetched);
    const EncodeResult encoded = primary.Encode();
    primary.sets->DropInflight();
    state.SetIterationTime(
        Seconds(fetched.bitmap_ns + captured.plan_ns + captured.copy_ns + captured.state_ns));
    bitmap.push_back(Seconds(fetched.bitmap_ns + captured.plan_ns) * 1e6);
    copy.push_back(Seconds(captured.copy_ns) * 1e6);
    encode.push_back(Seconds(encoded.encode_ns) * 1e6);
  }
  state.counters["bitmap_us"] = Median(bitmap);
  state.counters["copy_us"] = Median(copy);
  state.counters["encode_us"] = Median(encode);
}
BENCHMARK(BM_Epoch)
    ->ArgNames({"guest", "pages", "threads"})
    ->ArgsProduct({{1, 4, 8}, {0, 1024, 16384, 65536, 262144}, {1, 2}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace haven
