// SPDX-License-Identifier: Apache-2.0
//
// What a synthetic guest costs: its own writes, and the commands of an epoch.
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "engine/base/check.h"
#include "engine/synthetic/guest_main.h"
#include "engine/synthetic/launcher.h"
#include "engine/synthetic/synthetic_domain.h"
#include "engine/synthetic/synthetic_output.h"
#include "engine/synthetic/verify.h"

namespace haven {
namespace {

constexpr char kGuestWord[] = "synthetic-guest";

// Writes a second of one vCPU, without pacing and log.
void BM_Write(benchmark::State& state) {
  SyntheticSpec spec;
  spec.block_bytes = static_cast<uint32_t>(state.range(0));
  const SyntheticLayout layout(spec);
  std::vector<std::byte> bytes(layout.bytes());
  const GuestMemory memory = layout.View(bytes.data());
  const VcpuWorkload workload(spec, layout, 0);
  VcpuState vcpu;
  for (auto _ : state) benchmark::DoNotOptimize(workload.Write(memory, vcpu));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Write)->Arg(64)->Arg(512)->Arg(4096);

// The proof of a full memory.
void BM_Verify(benchmark::State& state) {
  SyntheticSpec spec;
  spec.fill_ppm = kPpm;
  const SyntheticLayout layout(spec);
  std::vector<std::byte> bytes(layout.bytes());
  const GuestMemory memory = layout.View(bytes.data());
  const VcpuWorkload workload(spec, layout, 0);
  SyntheticState guest;
  while (guest.vcpus[0].writes < workload.fill_writes()) workload.Write(memory, guest.vcpus[0]);
  for (auto _ : state) HAVEN_CHECK_OK(VerifySyntheticImage(spec, memory, guest));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(spec.mem_bytes));
}
BENCHMARK(BM_Verify)->Unit(benchmark::kMillisecond)->UseRealTime();

// A guest's process for the benchmarks below.
class Guest {
 public:
  explicit Guest(const std::string& text) {
    char path[] = "/tmp/haven-synthetic-benchmark-XXXXXX";
    HAVEN_CHECK(mkdtemp(path) != nullptr);
    launch_.command = {"/proc/self/exe", kGuestWord};
    launch_.runtime_dir = path;
    const SyntheticSpec spec = *ParseSyntheticSpec(text);
    HAVEN_CHECK_OK(StartSyntheticGuest(launch_, spec));
    connection_ = *SyntheticConnection::Attach(launch_.runtime_dir, spec.name);
  }
  ~Guest() {
    HAVEN_CHECK_OK(connection_->Kill());
    HAVEN_CHECK_EQ(rmdir(launch_.runtime_dir.c_str()), 0);
  }

  const std::shared_ptr<SyntheticConnection>& connection() const { return connection_; }

 private:
  SyntheticLaunch launch_;
  std::shared_ptr<SyntheticConnection> connection_;
};

// From Request() until the event that the guest stands still; it runs 2 ms in between.
void BM_Suspend(benchmark::State& state) {
  const Guest guest("synthetic:dirty=" + std::to_string(state.range(0)) + ",output=0");
  const auto suspend = *SyntheticSuspend::Create(guest.connection());
  for (auto _ : state) {
    const absl::Time start = absl::Now();
    HAVEN_CHECK_OK(suspend->Request());
    while (suspend->Poll() != SuspendMethod::State::kSuspended) {
      pollfd entry{suspend->event_fd(), POLLIN, 0};
      poll(&entry, 1, 1000);
    }
    state.SetIterationTime(absl::ToDoubleSeconds(absl::Now() - start));
    HAVEN_CHECK_OK(suspend->Resume());
    usleep(2000);
  }
}
BENCHMARK(BM_Suspend)
    ->Arg(0)
    ->Arg(20'000)
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

void BM_BarrierAndRelease(benchmark::State& state) {
  const Guest guest("synthetic:dirty=0,output=1000");
  SyntheticOutput output({guest.connection()});
  HAVEN_CHECK_OK(output.Hold());
  for (auto _ : state) {
    HAVEN_CHECK_OK(output.Barrier());
    HAVEN_CHECK_OK(output.ReleaseOne());
  }
}
BENCHMARK(BM_BarrierAndRelease)->Unit(benchmark::kMicrosecond)->UseRealTime();

void BM_CaptureState(benchmark::State& state) {
  const Guest guest("synthetic:dirty=0,output=0");
  SyntheticDomain domain(guest.connection());
  const auto suspend = *SyntheticSuspend::Create(guest.connection());
  HAVEN_CHECK_OK(suspend->Request());
  while (suspend->Poll() != SuspendMethod::State::kSuspended) {
    pollfd entry{suspend->event_fd(), POLLIN, 0};
    poll(&entry, 1, 1000);
  }
  std::vector<std::byte> record(domain.max_state_bytes());
  for (auto _ : state) HAVEN_CHECK_OK(domain.CaptureState(record));
}
BENCHMARK(BM_CaptureState)->Unit(benchmark::kMicrosecond)->UseRealTime();

// The log of a guest of so many MiB of which nothing is dirty.
void BM_FetchEmptyLog(benchmark::State& state) {
  const Guest guest("synthetic:dirty=0,output=0,fill=0,mem=" + std::to_string(state.range(0)) +
                    "M");
  SyntheticDomain domain(guest.connection());
  HAVEN_CHECK_OK(domain.EnableLogDirty());
  std::vector<uint64_t> dirty(domain.memory().bitmap_words(), 0);
  for (auto _ : state) HAVEN_CHECK_OK(domain.FetchAndClearDirty(dirty));
}
BENCHMARK(BM_FetchEmptyLog)->Arg(1024)->Arg(8192)->Arg(65536)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], haven::kGuestWord) == 0) {
    return haven::SyntheticGuestMain(argc - 2, argv + 2);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
