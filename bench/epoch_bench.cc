// SPDX-License-Identifier: Apache-2.0
//
// The whole engine, two processes over shared memory: epochs as production sends them. The guest
// stops and resumes in no time, so all times are the engine's own.
//
//   guest     size of the guest in GiB
//   pages     dirty pages of each epoch, none of them zero
//   one_of    one page of so many is dirty, in the guest's first pages
#include <benchmark/benchmark.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "bench/bench_pair.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/primary/phase_times.h"
#include "transport/shm/testing/forked_peer.h"

namespace haven {
namespace {

constexpr uint64_t kGiBPages = uint64_t{1} << 18;
constexpr int64_t kOneOf = 4;
constexpr absl::Duration kAnswer = absl::Seconds(60);
constexpr Epoch kEpochsMin = 40;
constexpr int64_t kMeasureNs = 2 * kNsPerSecond;
constexpr int64_t kLookNs = 10 * kNsPerMs;

// Time for an epoch of that size to be applied before the next one begins.
int64_t RestfulInterval(uint64_t pages) {
  return 5 * kNsPerMs + static_cast<int64_t>(pages) * 2 * kNsPerUs;
}

double Us(int64_t ns) { return static_cast<double>(ns) * 1e-3; }

double P50Us(const StatusSnapshot& status, Phase phase) {
  return Us(static_cast<int64_t>(status.phases[static_cast<size_t>(phase)].p50_ns));
}

StatusSnapshot StatusOf(EngineLoop& loop) {
  absl::StatusOr<StatusSnapshot> status = loop.Snapshot(kAnswer);
  HAVEN_CHECK_OK(status);
  return *std::move(status);
}

struct Measured {
  StatusSnapshot first;
  StatusSnapshot last;
  std::vector<int64_t> pauses;  // Ascending.
};

Measured Measure(const PairShape& shape) {
  Measured measured;
  const PairPlace place;
  ShmTransport transport;
  ForkedPeer backup([&] {
    const auto listener = transport.Listen(place.address());
    HAVEN_CHECK_OK(listener);
    BenchReplicaFactory factory;
    MakeSession(place, **listener, transport, factory)->Run();
    return 0;
  });
  BenchPorts ports(shape);
  const std::unique_ptr<EngineLoop> loop = MakeEngine(place, shape, ports, transport);
  std::thread thread([&] { loop->Run(std::nullopt); });
  Await("protection", kLookNs, [&] { return StatusOf(*loop).state == "protected"; });
  ports.RecordPauses();
  measured.first = StatusOf(*loop);
  Await("epochs", kLookNs, [&] {
    measured.last = StatusOf(*loop);
    return measured.last.written_ns - measured.first.written_ns >= kMeasureNs &&
           measured.last.epoch.committed > measured.first.epoch.committed + kEpochsMin;
  });
  HAVEN_CHECK_OK(loop->Stop(kAnswer));
  thread.join();
  measured.pauses = ports.TakePauses();
  std::sort(measured.pauses.begin(), measured.pauses.end());
  HAVEN_CHECK_GE(measured.pauses.size(), kEpochsMin);
  return measured;
}

// `Time`: the guest's pause, p50. `commit_us`: from the end of the pause to the acknowledgement.
void Report(benchmark::State& state, const Measured& measured) {
  const std::vector<int64_t>& pauses = measured.pauses;
  const StatusSnapshot& first = measured.first;
  const StatusSnapshot& last = measured.last;
  state.SetIterationTime(Us(pauses[pauses.size() / 2]) * 1e-6);
  state.counters["epochs"] = static_cast<double>(pauses.size());
  state.counters["pause_p99_us"] = Us(pauses[pauses.size() * 99 / 100]);
  state.counters["pause_max_us"] = Us(pauses.back());
  state.counters["suspend_us"] = P50Us(last, Phase::kSuspend);
  state.counters["bitmap_us"] = P50Us(last, Phase::kBitmap);
  state.counters["copy_us"] = P50Us(last, Phase::kCopy);
  state.counters["state_us"] = P50Us(last, Phase::kState);
  state.counters["encode_us"] = P50Us(last, Phase::kEncode);
  state.counters["wire_us"] = P50Us(last, Phase::kWire);
  state.counters["commit_us"] =
      P50Us(last, Phase::kEncode) + P50Us(last, Phase::kWire) + P50Us(last, Phase::kCommit);
  const double seconds = static_cast<double>(last.written_ns - first.written_ns) * 1e-9;
  state.counters["epochs/s"] =
      static_cast<double>(last.epoch.committed - first.epoch.committed) / seconds;
  state.counters["Mpages/s"] =
      static_cast<double>(last.counters.total_pages - first.counters.total_pages) / seconds * 1e-6;
}

PairShape ShapeOf(const benchmark::State& state) {
  return {.guest_pages = static_cast<uint64_t>(state.range(0)) * kGiBPages,
          .dirty_pages = static_cast<uint64_t>(state.range(1)),
          .one_of = static_cast<uint64_t>(state.range(2))};
}

// Epochs that do not meet the one before: the backup, which shares the processors here, has applied
// it. So the pause is what the primary's host alone makes it.
void BM_EpochAlone(benchmark::State& state) {
  PairShape shape = ShapeOf(state);
  shape.interval_ns = RestfulInterval(shape.dirty_pages);
  for (auto _ : state) Report(state, Measure(shape));
}

// Epochs without a break: what one host that plays both parts can do at most.
void BM_EpochsWithoutBreak(benchmark::State& state) {
  for (auto _ : state) Report(state, Measure(ShapeOf(state)));
}

void Unit(benchmark::internal::Benchmark* b) {
  b->ArgNames({"guest", "pages", "one_of"})
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

// The same spread for every size of guest and epoch, as far as the guest has room.
void Shapes(benchmark::internal::Benchmark* b) {
  Unit(b);
  for (const int64_t guest : {1, 2, 4, 8}) {
    for (const int64_t pages : {0, 1024, 16384, 65536, 262144}) {
      if (pages * kOneOf <= guest * static_cast<int64_t>(kGiBPages)) {
        b->Args({guest, pages, kOneOf});
      }
    }
  }
}

// One guest for all sizes of an epoch: its own size hardly matters to a rate.
void LargestGuest(benchmark::internal::Benchmark* b) {
  Unit(b);
  b->ArgsProduct({{8}, {0, 1024, 16384, 65536, 262144}, {kOneOf}});
}

// The same epoch, nearer together and farther apart.
void Spreads(benchmark::internal::Benchmark* b) {
  Unit(b);
  b->ArgsProduct({{8}, {65536}, {1, 2, 8, 16, 32}});
}
BENCHMARK(BM_EpochAlone)->Apply(Shapes)->Apply(Spreads);
BENCHMARK(BM_EpochsWithoutBreak)->Apply(LargestGuest);

}  // namespace
}  // namespace haven
