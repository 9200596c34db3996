// SPDX-License-Identifier: Apache-2.0
//
// Stops and starts the vCPU threads of a synthetic guest.
#ifndef HAVEN_ENGINE_SYNTHETIC_RUN_CONTROL_H_
#define HAVEN_ENGINE_SYNTHETIC_RUN_CONTROL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

namespace haven {

// Each vCPU works in slices and looks at stop_requested() between two writes. Between slices it is
// at a safe point, asleep or not, so a stop waits only for the vCPUs that are inside a slice: no
// longer than one write each, and not at all for those that sleep. Thread-safe.
class RunControl {
 public:
  // `on_stopped` is called with the id of a stop when it is complete, from whichever thread
  // completed it, with the lock held: it must be short and must not call back. With `running` false
  // the vCPUs wait at the start of their first slice until Resume().
  RunControl(bool running, std::function<void(uint64_t id)> on_stopped);

  enum class Slice : uint8_t {
    kRun,           // Work.
    kRunAfterStop,  // Work; the guest was stopped meanwhile: that time does not count.
    kExit,          // The thread ends.
  };

  // What each vCPU keeps between two calls.
  struct Turn {
    bool in_slice = false;
    uint64_t seen_resumes = 0;
  };

  // Ends the vCPU's slice, if it is in one, and begins the next at `due_ns` (Clock::NowNs) or when
  // a stop that holds it is over.
  Slice NextSlice(int64_t due_ns, Turn& turn);

  // True while a vCPU should end its slice.
  bool stop_requested() const { return stop_requested_.load(std::memory_order_relaxed); }

  // Asks for a stop. A second request replaces the id of the first; if the guest is stopped already
  // the second is complete at once. Ids are not 0.
  void Stop(uint64_t id);

  // Ends a stop, complete or not.
  void Resume();

  // Every vCPU is at a safe point and stays there until Resume().
  bool stopped() const;

  // Sends all threads to kExit, stopped or not, for good.
  void Exit();

 private:
  void AnnounceIfStopped();

  const std::function<void(uint64_t id)> on_stopped_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Mirrors stop_ || exit_ for the vCPUs' look between two writes.
  std::atomic<bool> stop_requested_;
  bool stop_;
  bool exit_ = false;
  uint64_t stop_id_ = 0;
  uint64_t resumes_ = 0;
  // vCPUs inside a slice.
  uint32_t working_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_RUN_CONTROL_H_
