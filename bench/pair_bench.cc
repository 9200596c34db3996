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
// or being applied. `Time`: from the kill, with the decision to promote at the same moment, until
// the copy runs: the register (a file), cut-off, reading, applying, starting.
void BM_Promotion(benchmark::State& state) {
  const PairShape shape = ShapeOf(state);
  std::vector<int64_t> times;
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
    const std::unique_ptr<SessionLoop> loop = MakeSession(place, **listener, transport, factory);
    SessionResult result;
    int64_t ended_ns = 0;
    std::thread thread([&] {
      result = loop->Run();
      ended_ns = SystemClock::Get().NowNs();
    });
    Epoch protected_at = kNoEpoch;
    Await("epochs", [&] {
      const absl::StatusOr<StatusSnapshot> status = loop->Snapshot(kAnswer);
      HAVEN_CHECK_OK(status);
      if (status->state != "protected") return false;
      if (protected_at == kNoEpoch) protected_at = status->epoch.committed;
      return status->epoch.committed >= protected_at + 5;
    });
    const int64_t killed_ns = SystemClock::Get().NowNs();
    primary.Kill(SIGKILL);
    HAVEN_CHECK_OK(loop->Promote(kAnswer));
    thread.join();
    HAVEN_CHECK(result.end == BackupEnd::kPromoted) << result.cause;
    times.push_back(ended_ns - killed_ns);
    state.SetIterationTime(static_cast<double>(times.back()) * 1e-9);
  }
  std::sort(times.begin(), times.end());
  state.counters["p50_ms"] = static_cast<double>(times[times.size() / 2]) * 1e-6;
  state.counters["max_ms"] = static_cast<double>(times.back()) * 1e-6;
}
BENCHMARK(BM_Promotion)
    ->ArgNames({"guest", "pages"})
    ->ArgsProduct({{1, 2, 4, 8}, {65536}})
    ->ArgsProduct({{4}, {0, 4096, 16384, 131072}})
    ->Iterations(9)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace haven
