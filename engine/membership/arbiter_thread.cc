// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_thread.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {

struct ArbiterThread::Call {
  uint64_t id = 0;
  std::string group;
  std::optional<RegisterRequest> request;  // nullopt: a read.
  Deadline deadline{absl::ZeroDuration()};
  int64_t overdue_ns = 0;  // When a reply is made up.
};

// What the owner and the worker share. The worker holds a reference of its own, so that it may be
// left behind.
class ArbiterThread::Shared {
 public:
  Shared(std::shared_ptr<Arbiter> arbiter, UniqueFd timer)
      : arbiter_(std::move(arbiter)), timer_(std::move(timer)) {}

  void Work();
  absl::Status Submit(Call call);
  std::optional<ArbiterReply> Pop();
  bool Stop(absl::Duration timeout);
  std::string Describe() const { return arbiter_->Describe(); }
  int fd() const { return timer_.get(); }

 private:
  void ReplyToOverdue();
  void ReplyOverdue(const Call& call);
  void Arm();

  const std::shared_ptr<Arbiter> arbiter_;
  // One descriptor for both reasons to call Pop: it expires at once when there is a reply, else
  // when the next call is overdue. Setting it again takes an expiry back.
  const UniqueFd timer_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> queue_;
  std::optional<Call> running_;  // With the worker, and without a reply.
  int64_t busy_since_ns_ = 0;    // When the worker began the call it is in; 0: it is in none.
  std::deque<ArbiterReply> replies_;
  bool stopping_ = false;
  bool ended_ = false;
};

void ArbiterThread::Shared::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) break;
    running_ = std::move(queue_.front());
    queue_.pop_front();
    const Call call = *running_;
    busy_since_ns_ = SystemClock::Get().NowNs();
    lock.unlock();
    RegisterAnswer answer =
        call.request.has_value()
            ? arbiter_->CompareAndSet(call.group, *call.request, call.deadline.Remaining())
            : arbiter_->Read(call.group, call.deadline.Remaining());
    lock.lock();
    busy_since_ns_ = 0;
    if (!running_.has_value()) continue;  // It was overdue and has its reply.
    running_.reset();
    replies_.push_back({call.id, call.group, std::move(answer)});
    Arm();
  }
  ended_ = true;
  changed_.notify_all();
}

absl::Status ArbiterThread::Shared::Submit(Call call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return absl::FailedPreconditionError("the arbiter's thread has been stopped");
  const auto same_group = [&call](const auto& other) { return other.group == call.group; };
  if ((running_.has_value() && same_group(*running_)) ||
      std::any_of(queue_.begin(), queue_.end(), same_group) ||
      std::any_of(replies_.begin(), replies_.end(), same_group)) {
    return absl::FailedPreconditionError(
        absl::StrCat("a call to the arbiter for group ", call.group, " has no reply popped yet"));
  }
  if (queue_.size() + replies_.size() + (running_.has_value() ? 1 : 0) >= kCallLimit) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kCallLimit, " calls to the arbiter wait already"));
  }
  queue_.push_back(std::move(call));
  changed_.notify_all();
  Arm();
  return absl::OkStatus();
}

std::optional<ArbiterReply> ArbiterThread::Shared::Pop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ReplyToOverdue();
  if (replies_.empty()) return std::nullopt;  // And the timer is as it was.
  std::optional<ArbiterReply> reply = std::move(replies_.front());
  replies_.pop_front();
  Arm();
  return reply;
}

void ArbiterThread::Shared::ReplyToOverdue() {
  const int64_t now_ns = SystemClock::Get().NowNs();
  if (running_.has_value() && now_ns >= running_->overdue_ns) {
    ReplyOverdue(*running_);
    running_.reset();
  }
  for (auto call = queue_.begin(); call != queue_.end();) {
    if (now_ns < call->overdue_ns) {
      ++call;
      continue;
    }
    ReplyOverdue(*call);
    call = queue_.erase(call);
  }
}

void ArbiterThread::Shared::ReplyOverdue(const Call& call) {
  std::string cause =
      absl::StrCat("no answer within ", absl::FormatDuration(call.deadline.timeout()));
  if (busy_since_ns_ != 0) {
    const absl::Duration busy = absl::Nanoseconds(SystemClock::Get().NowNs() - busy_since_ns_);
    absl::StrAppend(&cause, ": the arbiter has been in one call for ",
                    absl::FormatDuration(absl::Floor(busy, absl::Milliseconds(1))),
                    "; bring back what its storage, program or server needs");
  }
  replies_.push_back(
      {call.id, call.group,
       UnknownAnswer(arbiter_->Describe(), call.group, absl::DeadlineExceededError(cause))});
}

void ArbiterThread::Shared::Arm() {
  int64_t expiry_ns = 0;  // Never.
  if (!replies_.empty()) {
    expiry_ns = 1;  // Long past: at once.
  } else {
    const auto earlier = [&expiry_ns](const Call& call) {
      if (expiry_ns == 0 || call.overdue_ns < expiry_ns) expiry_ns = call.overdue_ns;
    };
    if (running_.has_value()) earlier(*running_);
    std::for_each(queue_.begin(), queue_.end(), earlier);
  }
  itimerspec setting = {};
  setting.it_value.tv_sec = expiry_ns / kNsPerSecond;
  setting.it_value.tv_nsec = expiry_ns % kNsPerSecond;
  HAVEN_CHECK_EQ(timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &setting, nullptr), 0);
}

bool ArbiterThread::Shared::Stop(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  stopping_ = true;
  queue_.clear();
  running_.reset();
  replies_.clear();
  Arm();
  changed_.notify_all();
  const absl::Duration bounded = Deadline(timeout).timeout();
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(bounded), [this] { return ended_; });
}

absl::StatusOr<std::unique_ptr<ArbiterThread>> ArbiterThread::Start(
    std::shared_ptr<Arbiter> arbiter) {
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return absl::ErrnoToStatus(errno, "make a timer for the arbiter's thread");
  auto shared = std::make_shared<Shared>(std::move(arbiter), std::move(timer));
  HAVEN_ASSIGN_OR_RETURN(Thread worker,
                         Thread::Start("haven-arbiter", [shared] { shared->Work(); }));
  return std::unique_ptr<ArbiterThread>(new ArbiterThread(std::move(shared), std::move(worker)));
}

ArbiterThread::ArbiterThread(std::shared_ptr<Shared> shared, Thread worker)
    : shared_(std::move(shared)), worker_(std::move(worker)) {}

ArbiterThread::~ArbiterThread() { Stop(kStopTimeout).IgnoreError(); }

absl::Status ArbiterThread::SubmitRead(uint64_t id, absl::string_view group,
                                       absl::Duration timeout) {
  const Deadline deadline(timeout);
  return shared_->Submit(
      {id, std::string(group), std::nullopt, deadline,
       SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(deadline.timeout() + kGrace)});
}

absl::Status ArbiterThread::SubmitChange(uint64_t id, absl::string_view group,
                                         RegisterRequest request, absl::Duration timeout) {
  const Deadline deadline(timeout);
  return shared_->Submit(
      {id, std::string(group), std::move(request), deadline,
       SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(deadline.timeout() + kGrace)});
}

std::optional<ArbiterReply> ArbiterThread::Pop() { return shared_->Pop(); }

int ArbiterThread::fd() const { return shared_->fd(); }

absl::Status ArbiterThread::Stop(absl::Duration timeout) {
  if (std::exchange(stopped_, true)) return absl::OkStatus();
  if (shared_->Stop(timeout)) {
    worker_.Join();
    return absl::OkStatus();
  }
  worker_.Detach();
  return absl::DeadlineExceededError(absl::StrCat(
      "the arbiter ", shared_->Describe(), " hangs in a call for more than ",
      absl::FormatDuration(Deadline(timeout).timeout()), "; its thread is left behind"));
}

}  // namespace haven
