// SPDX-License-Identifier: Apache-2.0
#include "bench/trace_ports.h"

#include <pthread.h>
#include <time.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace haven {
namespace {

int64_t Now() { return SystemClock::Get().NowNs(); }

double CpuSeconds(clockid_t clock) {
  timespec spent{};
  HAVEN_CHECK_EQ(clock_gettime(clock, &spent), 0);
  return static_cast<double>(spent.tv_sec) + static_cast<double>(spent.tv_nsec) * 1e-9;
}

// CPU time of this process without that of one of its threads.
double CpuSecondsWithout(std::thread& thread) {
  clockid_t own{};
  HAVEN_CHECK_EQ(pthread_getcpuclockid(thread.native_handle(), &own), 0);
  return CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - CpuSeconds(own);
}

// Of the guest's computation: about a microsecond. The result goes to memory, so that the compiler
// computes it.
void Step(volatile uint64_t* result) {
  uint64_t value = *result;
  for (int i = 0; i < 1000; ++i) value = value * 6364136223846793005 + 1442695040888963407;
  *result = value;
}

}  // namespace

TracePorts::TracePorts(const PageTrace& trace)
    : BenchPorts({.guest_pages = trace.page_count, .dirty_pages = 0}), trace_(trace) {
  for (size_t i = 0; i < trace.base.gfns.size(); ++i) {
    std::memcpy(memory().Page(trace.base.gfns[i]), trace.base.Page(i), kPageBytes);
  }
  // Played once, to know the way back.
  for (const TraceEpoch& epoch : trace.epochs) {
    TraceEpoch before{.gfns = epoch.gfns, .pages = std::vector<std::byte>(epoch.pages.size())};
    for (size_t i = 0; i < epoch.gfns.size(); ++i) {
      std::byte* const page = memory().Page(epoch.gfns[i]);
      std::memcpy(before.pages.data() + i * kPageBytes, page, kPageBytes);
      std::memcpy(page, epoch.Page(i), kPageBytes);
    }
    back_.push_back(std::move(before));
  }
  next_ = trace.epochs.size();
  forward_ = false;
  computing_ = std::thread([this] { Compute(); });
}

TracePorts::~TracePorts() {
  over_.store(true);
  SetResting(false);
  computing_.join();
}

void TracePorts::SetResting(bool resting) {
  resting_.store(resting);
  resting_.notify_all();
}

double TracePorts::StepsPerSecond() {
  constexpr uint64_t kSteps = 100'000;
  HAVEN_CHECK(!resting_.load());
  const int64_t began_ns = Now();
  const uint64_t goal = steps_.load() + kSteps;
  goal_.store(goal);
  goal_.wait(goal);
  return kSteps / (static_cast<double>(Now() - began_ns) * 1e-9);
}

void TracePorts::Compute() {
  volatile uint64_t value = 1;
  while (!over_.load(std::memory_order_relaxed)) {
    resting_.wait(true);
    if (stop_.load(std::memory_order_relaxed)) continue;
    Step(&value);
    const uint64_t done = steps_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (done != goal_.load(std::memory_order_relaxed)) continue;
    goal_.store(0);
    goal_.notify_all();
  }
}

// One interval, forward or back.
void TracePorts::Play() {
  if (forward_ && next_ == trace_.epochs.size()) forward_ = false;
  if (!forward_ && next_ == 0) forward_ = true;
  const TraceEpoch& epoch = forward_ ? trace_.epochs[next_++] : back_[--next_];
  for (size_t i = 0; i < epoch.gfns.size(); ++i) {
    std::memcpy(memory().Page(epoch.gfns[i]), epoch.Page(i), kPageBytes);
    MarkDirty(epoch.gfns[i]);
  }
}

absl::Status TracePorts::Request() {
  // What the guest wrote since it was stopped last, before it is stopped again.
  Play();
  stop_.store(true);
  stopped_at_ns_ = Now();
  return BenchPorts::Request();
}

absl::Status TracePorts::Resume() {
  resumed_at_ns_ = Now();
  stop_.store(false);
  {
    const std::lock_guard lock(mutex_);
    if (recording_) view_.pause_ns.push_back(resumed_at_ns_ - stopped_at_ns_);
  }
  return BenchPorts::Resume();
}

absl::Status TracePorts::ReleaseOne() {
  const std::lock_guard lock(mutex_);
  if (recording_) view_.commit_ns.push_back(Now() - resumed_at_ns_);
  committed_.notify_all();
  return absl::OkStatus();
}

GuestView TracePorts::Watch(size_t epochs) {
  std::unique_lock lock(mutex_);
  view_ = {};
  recording_ = true;
  const int64_t began_ns = Now();
  const uint64_t began_steps = steps_.load(std::memory_order_relaxed);
  const double began_cpu = CpuSecondsWithout(computing_);
  for (size_t seen = 1; seen <= epochs; ++seen) {
    HAVEN_CHECK(committed_.wait_for(lock, std::chrono::minutes(1),
                                    [&] { return view_.commit_ns.size() >= seen; }))
        << "epochs=" << seen;
  }
  recording_ = false;
  view_.seconds = static_cast<double>(Now() - began_ns) * 1e-9;
  view_.work = static_cast<double>(steps_.load(std::memory_order_relaxed) - began_steps);
  view_.cpu_seconds = CpuSecondsWithout(computing_) - began_cpu;
  return std::move(view_);
}

}  // namespace haven
