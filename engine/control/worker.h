// SPDX-License-Identifier: Apache-2.0
//
// Keeps calls that block away from a thread that must not.
#ifndef HAVEN_ENGINE_CONTROL_WORKER_H_
#define HAVEN_ENGINE_CONTROL_WORKER_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "engine/base/thread.h"
#include "engine/control/wake_fd.h"

namespace haven {

// Runs jobs one after the other in a thread of its own. A job returns what is to be done with its
// result, which the owner runs in its own thread; so neither needs locks of its own. All members
// are for the owner's thread.
class Worker {
 public:
  using Finish = absl::AnyInvocable<void()>;
  using Job = absl::AnyInvocable<Finish()>;

  // Jobs that may wait or run, or be done with their Finish not yet run.
  static constexpr size_t kMaxJobs = 32;

  // Errors of Thread::Start and WakeFd::Create.
  static absl::StatusOr<std::unique_ptr<Worker>> Start(const char* thread_name);

  // Waits for the job that runs. Jobs that wait are not run, nor is any Finish.
  ~Worker();

  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // False if kMaxJobs is reached: the job is dropped.
  [[nodiscard]] bool Submit(Job job);

  // Runs the Finish of every job that is done; true if there was one.
  bool RunFinished();

  // Waits until every job is done; their Finish has not run. Takes as long as the jobs take.
  void WaitIdle();

  // Readable when RunFinished() has something to do.
  int fd() const { return wake_.fd(); }

 private:
  explicit Worker(WakeFd wake) : wake_(std::move(wake)) {}

  void Work();

  const WakeFd wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> waiting_;
  std::vector<Finish> finished_;
  bool running_ = false;
  bool stop_ = false;
  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_WORKER_H_
