// SPDX-License-Identifier: Apache-2.0
//
// The vCPU threads of a synthetic guest.
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>

#include "engine/base/byte_order.h"
#include "engine/base/clock.h"
#include "engine/synthetic/guest_machine.h"

namespace haven {
namespace {

// Sleeps are not shorter than this: at high rates several writes are done in one go.
constexpr int64_t kMinSleepNs = kNsPerMs;

// Also an idle guest does something now and then, as its timers do.
constexpr int64_t kMaxSleepNs = kNsPerSecond;

// A slice ends after as many writes, so that packets are not late when the writes take all the
// time.
constexpr int kMaxSliceWrites = 256;

// The part of a rate that falls to one vCPU.
uint64_t RateOf(uint64_t rate, uint32_t vcpu, uint32_t vcpus) {
  return rate / vcpus + (vcpu < rate % vcpus ? 1 : 0);
}

}  // namespace

void GuestMachine::RunVcpu(uint32_t vcpu) {
  // The kernel's default slack of 50 us is half of what a suspension may take. Failure is harmless.
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  const Clock& clock = SystemClock::Get();
  int64_t due_ns = clock.NowNs();
  Pacer writes(RateOf(spec_.dirty_per_second, vcpu, spec_.vcpus), due_ns);
  Pacer packets(RateOf(spec_.output_per_second, vcpu, spec_.vcpus), due_ns);
  RunControl::Turn turn;
  while (true) {
    const RunControl::Slice slice = run_->NextSlice(due_ns, turn);
    if (slice == RunControl::Slice::kExit) return;
    const int64_t now_ns = clock.NowNs();
    if (slice == RunControl::Slice::kRunAfterStop) {
      writes.Skip(now_ns);
      packets.Skip(now_ns);
    }
    writes.Advance(now_ns);
    packets.Advance(now_ns);
    RunSlice(vcpu, writes, packets);
    const int64_t next_ns = std::min(writes.NextNs(), packets.NextNs());
    due_ns = next_ns <= now_ns ? now_ns
                               : std::clamp(next_ns, now_ns + kMinSleepNs, now_ns + kMaxSleepNs);
  }
}

void GuestMachine::RunSlice(uint32_t vcpu, Pacer& writes, Pacer& packets) {
  VcpuState& state = state_.vcpus[vcpu];
  for (int count = 0; count < kMaxSliceWrites && !run_->stop_requested() && writes.Take();
       ++count) {
    MarkDirty(workloads_[vcpu].Write(memory_, state));
  }
  while (!run_->stop_requested() && packets.Take()) gate_->Emit(vcpu, state.writes);
  published_writes_[vcpu].store(state.writes, std::memory_order_relaxed);
  // A special page, as the ring pages of a real guest, is written and logged, but is no RAM.
  std::byte* const slices = SpecialPage(vcpu) + 16;
  StoreLe64(slices, LoadLe64(slices) + 1);
  MarkDirty(layout_.special_first() + vcpu);
}

void GuestMachine::MarkDirty(Gfn gfn) {
  // After the write: whoever clears the bit and then copies the page has all of the write, and a
  // write in progress sets it again. Always by a locked operation, even if the bit is set: a plain
  // look could be answered before the write is visible to the reader who clears the bit.
  std::atomic_ref<uint64_t>(bitmap_[static_cast<size_t>(gfn / 64)])
      .fetch_or(uint64_t{1} << (gfn % 64), std::memory_order_release);
}

void GuestMachine::ClearLog() {
  for (uint64_t& word : bitmap_) {
    std::atomic_ref<uint64_t>(word).exchange(0, std::memory_order_acq_rel);
  }
}

}  // namespace haven
