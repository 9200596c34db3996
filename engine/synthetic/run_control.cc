// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/run_control.h"

#include <chrono>
#include <utility>

#include "engine/base/check.h"

namespace haven {

RunControl::RunControl(bool running, std::function<void(uint64_t id)> on_stopped)
    : on_stopped_(std::move(on_stopped)), stop_requested_(!running), stop_(!running) {}

RunControl::Slice RunControl::NextSlice(int64_t due_ns, Turn& turn) {
  const std::chrono::steady_clock::time_point due{std::chrono::nanoseconds(due_ns)};
  std::unique_lock lock(mutex_);
  if (std::exchange(turn.in_slice, false)) {
    HAVEN_CHECK_GT(working_, 0u);
    --working_;
    AnnounceIfStopped();
  }
  changed_.wait_until(lock, due, [&] { return exit_ || stop_ || resumes_ != turn.seen_resumes; });
  changed_.wait(lock, [&] { return exit_ || !stop_; });
  if (exit_) return Slice::kExit;
  ++working_;
  turn.in_slice = true;
  const bool was_stopped = std::exchange(turn.seen_resumes, resumes_) != resumes_;
  return was_stopped ? Slice::kRunAfterStop : Slice::kRun;
}

void RunControl::Stop(uint64_t id) {
  HAVEN_CHECK_NE(id, 0u);
  const std::lock_guard lock(mutex_);
  stop_id_ = id;
  stop_ = true;
  stop_requested_.store(true, std::memory_order_relaxed);
  AnnounceIfStopped();
}

void RunControl::Resume() {
  const std::lock_guard lock(mutex_);
  if (!stop_) return;
  stop_ = false;
  stop_id_ = 0;
  ++resumes_;
  stop_requested_.store(exit_, std::memory_order_relaxed);
  changed_.notify_all();
}

bool RunControl::stopped() const {
  const std::lock_guard lock(mutex_);
  return stop_ && working_ == 0;
}

void RunControl::Exit() {
  const std::lock_guard lock(mutex_);
  exit_ = true;
  stop_requested_.store(true, std::memory_order_relaxed);
  changed_.notify_all();
}

void RunControl::AnnounceIfStopped() {
  if (!stop_ || working_ != 0 || stop_id_ == 0) return;
  on_stopped_(std::exchange(stop_id_, 0));
}

}  // namespace haven
