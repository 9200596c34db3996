// SPDX-License-Identifier: Apache-2.0
//
// The whole engine, two processes over shared memory: epochs one after the other as production
// sends them, and promotions after kill -9 of the primary. The guest stops and resumes in no time,
// so all times are the engine's own.
//
//   guest     size of the guest in GiB
//   pages     dirty pages of each epoch, none of them zero, no two adjacent
#include <benchmark/benchmark.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>
#include <vector>

#include "bench/bench_pair.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/primary/phase_times.h"

namespace haven {
namespace {

constexpr uint64_t kGiBPages = uint64_t{1} << 18;
constexpr absl::Duration kAnswer = absl::Seconds(60);
constexpr Epoch kEpochsMin = 30;
constexpr int64_t kMeasureNs = 2 * kNsPerSecond;
constexpr int64_t kPatienceNs = 120 * kNsPerSecond;

PairShape ShapeOf(const benchmark::State& state) {
  return {.guest_pages = static_cast<uint64_t>(state.range(0)) * kGiBPages,
          .dirty_pages = static_cast<uint64_t>(state.range(1))};
}

// Looks every 10 ms, so as not to compete with what is measured.
template <typename Done>
void Await(const char* what, const Done& done) {
  const int64_t deadline_ns = SystemClock::Get().NowNs() + kPatienceNs;
  while (!done()) {
    HAVEN_CHECK_LT(SystemClock::Get().NowNs(), deadline_ns) << "waiting for " << what;
    usleep(10'000);
  }
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double Us(uint64_t ns) { return static_cast<double>(ns) * 1e-3; }

double P50Us(const StatusSnapshot& status, Phase phase) {
  return Us(status.phases[static_cast<size_t>(phase)].p50_ns);
}

StatusSnapshot StatusOf(EngineLoop& loop) {
  absl::StatusOr<StatusSnapshot> status = loop.Snapshot(kAnswer);
  HAVEN_CHECK_OK(status);
  return *std::move(status);
}

// `Time`: the guest's pause, p50. `commit_us`: from the end of the pause to the acknowledgement.
void BM_EpochOverShm(benchmark::State& state) {
  const PairShape shape = ShapeOf(state);
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
  Await("protection", [&] { return StatusOf(*loop).state == "protected"; });
  StatusSnapshot first;
  StatusSnapshot last;
  for (auto _ : state) {
    first = StatusOf(*loop);
    Await("epochs", [&] {
      last = StatusOf(*loop);
      return last.written_ns - first.written_ns >= kMeasureNs &&
             last.epoch.committed >= first.epoch.committed + kEpochsMin;
    });
    state.SetIterationTime(static_cast<double>(last.pause.p50_ns) * 1e-9);
  }
  const double seconds = static_cast<double>(last.written_ns - first.written_ns) * 1e-9;
  state.counters["pause_p99_us"] = Us(last.pause.p99_ns);
  state.counters["bitmap_us"] = P50Us(last, Phase::kBitmap);
  state.counters["copy_us"] = P50Us(last, Phase::kCopy);
  state.counters["encode_us"] = P50Us(last, Phase::kEncode);
  state.counters["wire_us"] = P50Us(last, Phase::kWire);
  state.counters["commit_us"] =
      P50Us(last, Phase::kEncode) + P50Us(last, Phase::kWire) + P50Us(last, Phase::kCommit);
  state.counters["epochs/s"] =
      static_cast<double>(last.epoch.committed - first.epoch.committed) / seconds;
  state.counters["Mpages/s"] =
      static_cast<double>(last.counters.total_pages - first.counters.total_pages) / seconds * 1e-6;
  HAVEN_CHECK_OK(loop->Stop(kAnswer));
  thread.join();
}
BENCHMARK(BM_EpochOverShm)
    ->ArgNames({"guest", "pages"})
    ->ArgsProduct({{1, 2, 4, 8}, {0, 1024, 16384, 65536, 262144}})
    ->Iterations(1)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

// kill -9 of the primary while epochs follow each other without a break, so that one is on its way
// or being applied, and the decision to promote at the same moment. `Time`: from the proof that the
// old writer is cut off until the copy runs: reading and applying what is left, starting. Before
// that, `register_ms` (a file) and `cut_off_ms`: over shared memory the proof is the end of the old
// process, and the kernel takes longer to free a larger one.
void BM_Promotion(benchmark::State& state) {
  const PairShape shape = ShapeOf(state);
  std::vector<double> promotions;
  std::vector<double> registers;
  std::vector<double> cut_offs;
  for (auto _ : state) {
    const PairPlace place;
    ShmTransport transport;
    ForkedPeer primary([&] {
      BenchPorts ports(shape);
      MakeEngine(place, shape, ports, transport)->Run(std::nullopt);
      return 0;
    });
    const auto listener = transport.Listen(place.address());
    HAVEN_CHECK_OK(listener);
    BenchReplicaFactory factory;
    std::unique_ptr<SessionLoop> loop = MakeSession(place, **listener, transport, factory);
    SessionResult result;
    int64_t ended_ns = 0;
    std::thread thread([&] {
      result = loop->Run();
      ended_ns = SystemClock::Get().WallNs();
    });
    Epoch protected_at = kNoEpoch;
    Await("epochs", [&] {
      const absl::StatusOr<StatusSnapshot> status = loop->Snapshot(kAnswer);
      HAVEN_CHECK_OK(status);
      if (status->state != "protected") return false;
      if (protected_at == kNoEpoch) protected_at = status->epoch.committed;
      return status->epoch.committed >= protected_at + 5;
    });
    const int64_t killed_ns = SystemClock::Get().WallNs();
    primary.Kill(SIGKILL);
    HAVEN_CHECK_OK(loop->Promote(kAnswer));
    thread.join();
    HAVEN_CHECK(result.end == BackupEnd::kPromoted) << result.cause;
    loop.reset();  // All events are written.
    const int64_t granted_ns = place.EventNs("granted: cutting off the old writer");
    const int64_t cut_off_ns = place.EventNs("reading the journal");
    registers.push_back(static_cast<double>(granted_ns - killed_ns) * 1e-6);
    cut_offs.push_back(static_cast<double>(cut_off_ns - granted_ns) * 1e-6);
    promotions.push_back(static_cast<double>(ended_ns - cut_off_ns) * 1e-6);
    state.SetIterationTime(promotions.back() * 1e-3);
  }
  state.counters["p50_ms"] = Median(promotions);
  state.counters["max_ms"] = *std::max_element(promotions.begin(), promotions.end());
  state.counters["register_ms"] = Median(registers);
  state.counters["cut_off_ms"] = Median(cut_offs);
}
BENCHMARK(BM_Promotion)
    ->ArgNames({"guest", "pages"})
    ->ArgsProduct({{1, 2, 4, 8}, {65536}})
    ->ArgsProduct({{2}, {0, 4096, 16384, 131072}})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace haven
