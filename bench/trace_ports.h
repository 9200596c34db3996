// SPDX-License-Identifier: Apache-2.0
//
// A guest that writes what real programs wrote: a trace of dirty pages, an interval for each epoch.
#ifndef HAVEN_BENCH_TRACE_PORTS_H_
#define HAVEN_BENCH_TRACE_PORTS_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "bench/bench_pair.h"
#include "bench/capture/page_trace.h"

namespace haven {

// What the guest saw of some epochs.
struct GuestView {
  std::vector<int64_t> pause_ns;   // Asked to stop until told to run.
  std::vector<int64_t> commit_ns;  // From there until the output that was held may go.
  double seconds = 0;
  double work = 0;         // Steps of the computation that runs in the guest.
  double cpu_seconds = 0;  // Of the process without that computation.
};

// Plays the trace to its end and back again, so that nothing jumps. Its one processor computes
// while it is not stopped, unless the guest rests, as it does at first.
class TracePorts final : public BenchPorts {
 public:
  explicit TracePorts(const PageTrace& trace);
  ~TracePorts() override;

  absl::Status Request() override;
  absl::Status Resume() override;
  absl::Status ReleaseOne() override;

  // Whether the guest computes. Its engine goes on in either case.
  void SetResting(bool resting);

  // Steps of the computation in a second, over about a tenth of one. The guest does not rest.
  // While the engine has no epoch to make, that is what the guest does alone.
  double StepsPerSecond();

  // Waits until so many more epochs are committed, from any thread but the engine's; checked: no
  // epoch takes a minute.
  GuestView Watch(size_t epochs);

 private:
  void Play();
  void Compute();

  const PageTrace& trace_;
  std::vector<TraceEpoch> back_;  // What the pages of each interval held before it.
  size_t next_ = 0;
  bool forward_ = true;

  int64_t stopped_at_ns_ = 0;
  int64_t resumed_at_ns_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<bool> over_{false};
  std::atomic<bool> resting_{true};
  std::atomic<uint64_t> steps_{0};
  std::atomic<uint64_t> goal_{0};  // Steps after which somebody wants to know; then 0.
  std::thread computing_;

  std::mutex mutex_;
  std::condition_variable committed_;
  bool recording_ = false;
  GuestView view_;
};

}  // namespace haven

#endif  // HAVEN_BENCH_TRACE_PORTS_H_
