// SPDX-License-Identifier: Apache-2.0
//
// kill -9 of a primary right after the acknowledgement of an epoch, and the promotion of its
// backup: two processes over shared memory, production's loops on both sides.
//
//   guest     size of the guest in GiB
//   pages     dirty pages of the last epoch, none of them zero
//   one_of    one page of so many is dirty, in the guest's first pages
#include <benchmark/benchmark.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <thread>
#include <vector>

#include "bench/bench_pair.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "transport/shm/testing/forked_peer.h"

namespace haven {
namespace {

constexpr uint64_t kGiBPages = uint64_t{1} << 18;
constexpr absl::Duration kAnswer = absl::Seconds(60);
constexpr int64_t kLookNs = 1 * kNsPerMs;

// Longer than register and cut-off take.
constexpr int64_t kHoldNs = 400 * kNsPerMs;

// Of one round.
constexpr int kTriesMax = 5;

// The kill comes so soon after the last acknowledgement.
constexpr int64_t kFreshNs = 20 * kNsPerMs;

double Ms(int64_t ns) { return static_cast<double>(ns) * 1e-6; }

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// One promotion, in ns.
struct Times {
  int64_t register_ns = 0;   // Kill to the arbiter's grant (a file).
  int64_t cut_off_ns = 0;    // From then to the end of the killed process, which is the proof.
  int64_t apply_ns = 0;      // From then until what is left is applied.
  int64_t promotion_ns = 0;  // From the proof until the copy runs; the register is told too.
};

// With `apply_delay_ns` the last epoch is acknowledged and not applied at all when the old
// writer is cut off; nothing if that took so long that it may have been.
std::optional<Times> PromoteOnce(const PairShape& shape, int64_t apply_delay_ns) {
  const PairPlace place;
  ShmTransport transport;
  // Made before the fork: as a hypervisor does, this process keeps the guest's memory when the
  // primary ends, which only takes its mappings away.
  BenchPorts ports(shape);
  ForkedPeer primary([&] {
    MakeEngine(place, shape, ports, transport)->Run(std::nullopt);
    return 0;
  });
  const auto listener = transport.Listen(place.address());
  HAVEN_CHECK_OK(listener);
  BenchReplicaFactory factory;
  std::unique_ptr<SessionLoop> loop =
      MakeSession(place, **listener, transport, factory, apply_delay_ns);
  SessionResult result;
  int64_t ended_ns = 0;
  std::thread thread([&] {
    result = loop->Run();
    ended_ns = SystemClock::Get().WallNs();
  });
  StatusSnapshot status;
  const auto look = [&] {
    absl::StatusOr<StatusSnapshot> got = loop->Snapshot(kAnswer);
    HAVEN_CHECK_OK(got);
    status = *std::move(got);
  };
  Await("protection", kLookNs, [&] { return look(), status.state == "protected"; });
  const Epoch before = status.epoch.committed;
  Await("the last epoch", kLookNs, [&] {
    look();
    const bool alone = status.epoch.applied + 1 == status.epoch.committed;
    return status.epoch.committed > before && status.epoch.age_ns < kFreshNs &&
           (alone || apply_delay_ns == 0);
  });
  const int64_t killed_ns = SystemClock::Get().WallNs();
  primary.Kill(SIGKILL);
  HAVEN_CHECK_OK(loop->Promote(kAnswer));
  thread.join();
  HAVEN_CHECK(result.end == BackupEnd::kPromoted) << result.cause;
  loop.reset();  // All events are written.
  const int64_t granted_ns = place.EventNs("granted: cutting off the old writer");
  const int64_t proof_ns = place.EventNs("reading the journal");
  const bool unapplied = proof_ns - killed_ns + kFreshNs < apply_delay_ns;
  if (apply_delay_ns > 0 && !unapplied) return std::nullopt;
  return Times{.register_ns = granted_ns - killed_ns,
               .cut_off_ns = proof_ns - granted_ns,
               .apply_ns = place.EventNs("preparing the guests") - proof_ns,
               .promotion_ns = ended_ns - proof_ns};
}

void Promote(benchmark::State& state, int64_t apply_delay_ns) {
  const PairShape shape = {.guest_pages = static_cast<uint64_t>(state.range(0)) * kGiBPages,
                           .dirty_pages = static_cast<uint64_t>(state.range(1)),
                           .one_of = static_cast<uint64_t>(state.range(2)),
                           // The epochs before the last one are applied when that one is sent.
                           .interval_ns = 2 * kHoldNs};
  std::vector<double> registers;
  std::vector<double> cut_offs;
  std::vector<double> applies;
  std::vector<double> promotions;
  for (auto _ : state) {
    std::optional<Times> done;
    for (int tries = 0; !done.has_value(); ++tries) {
      HAVEN_CHECK_LT(tries, kTriesMax) << "the machine is too busy";
      done = PromoteOnce(shape, apply_delay_ns);
    }
    const Times& times = *done;
    registers.push_back(Ms(times.register_ns));
    cut_offs.push_back(Ms(times.cut_off_ns));
    applies.push_back(Ms(times.apply_ns));
    promotions.push_back(Ms(times.promotion_ns));
    state.SetIterationTime(promotions.back() * 1e-3);
  }
  state.counters["p50_ms"] = Median(promotions);
  state.counters["max_ms"] = *std::max_element(promotions.begin(), promotions.end());
  state.counters["apply_ms"] = Median(applies);
  state.counters["register_ms"] = Median(registers);
  state.counters["cut_off_ms"] = Median(cut_offs);
}

// The worst case: a backup that has not begun to apply the last epoch. `Time`: from the proof that
// the old writer is cut off until the copy runs.
void BM_PromotionUnapplied(benchmark::State& state) { Promote(state, kHoldNs); }

// A backup that applies while register and cut-off take their time.
void BM_Promotion(benchmark::State& state) { Promote(state, 0); }

void Shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"guest", "pages", "one_of"})
      ->Iterations(5)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

// Over the size of the guest, over that of the epoch, over how far apart its pages lie.
BENCHMARK(BM_PromotionUnapplied)
    ->Apply(Shapes)
    ->ArgsProduct({{1, 2, 4, 8}, {65536}, {4}})
    ->ArgsProduct({{4}, {0, 4096, 16384, 131072, 262144}, {4}})
    ->ArgsProduct({{8}, {65536}, {1, 2, 8, 16, 32}});
BENCHMARK(BM_Promotion)->Apply(Shapes)->Args({1, 65536, 4});

}  // namespace
}  // namespace haven
