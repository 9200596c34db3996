// SPDX-License-Identifier: Apache-2.0
#include "engine/control/worker.h"

#include <utility>

#include "engine/base/status_macros.h"

namespace haven {

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const char* thread_name) {
  HAVEN_ASSIGN_OR_RETURN(WakeFd wake, WakeFd::Create());
  std::unique_ptr<Worker> worker(new Worker(std::move(wake)));
  HAVEN_ASSIGN_OR_RETURN(worker->thread_,
                         Thread::Start(thread_name, [self = worker.get()] { self->Work(); }));
  return worker;
}

Worker::~Worker() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.Join();
}

bool Worker::Submit(Job job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.size() + finished_.size() + (running_ ? 1 : 0) >= kMaxJobs) return false;
  waiting_.push_back(std::move(job));
  changed_.notify_all();
  return true;
}

bool Worker::RunFinished() {
  std::vector<Finish> finished;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_.empty()) return false;  // Asked in every turn of a loop.
    finished.swap(finished_);
    wake_.Clear();
  }
  for (Finish& finish : finished) finish();
  return true;
}

void Worker::WaitIdle() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return waiting_.empty() && !running_; });
}

void Worker::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    running_ = true;
    lock.unlock();
    Finish finish = job();
    // What the job holds goes in this thread, not in the owner's.
    job = nullptr;
    lock.lock();
    running_ = false;
    finished_.push_back(std::move(finish));
    wake_.Signal();
    changed_.notify_all();
  }
}

}  // namespace haven
