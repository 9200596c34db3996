// SPDX-License-Identifier: Apache-2.0
#include "engine/control/thread_arbiter_port.h"

#include <utility>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"

namespace haven {

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGranted:
      return "granted";
    case Verdict::kDenied:
      return "denied";
    case Verdict::kUnknown:
      return "unknown";
  }
  HAVEN_CHECK(false) << "no such verdict";
  return "";
}

absl::StatusOr<std::unique_ptr<ThreadArbiterPort>> ThreadArbiterPort::Create(
    std::shared_ptr<Arbiter> arbiter, std::string group, absl::Duration timeout) {
  std::string name = arbiter->Describe();
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ArbiterThread> thread,
                         ArbiterThread::Start(std::move(arbiter)));
  return std::unique_ptr<ThreadArbiterPort>(
      new ThreadArbiterPort(std::move(thread), std::move(name), std::move(group), timeout));
}

ThreadArbiterPort::ThreadArbiterPort(std::unique_ptr<ArbiterThread> thread, std::string name,
                                     std::string group, absl::Duration timeout)
    : thread_(std::move(thread)),
      name_(std::move(name)),
      group_(std::move(group)),
      timeout_(timeout) {}

void ThreadArbiterPort::SubmitRead() {
  Submitted(thread_->SubmitRead(++last_id_, group_, timeout_));
}

void ThreadArbiterPort::SubmitChange(const RegisterRequest& request) {
  Submitted(thread_->SubmitChange(++last_id_, group_, request, timeout_));
}

// A call that is not taken is answered like one that nobody answers.
void ThreadArbiterPort::Submitted(const absl::Status& status) {
  if (!status.ok()) refused_ = status;
}

std::optional<RegisterAnswer> ThreadArbiterPort::Next() {
  RegisterAnswer answer;
  if (refused_.has_value()) {
    answer.cause = *std::exchange(refused_, std::nullopt);
  } else {
    std::optional<ArbiterReply> reply = thread_->Pop();
    if (!reply.has_value()) return std::nullopt;
    HAVEN_CHECK_EQ(reply->id, last_id_);
    answer = std::move(reply->answer);
  }
  last_ = {.any = true,
           .verdict = answer.verdict,
           .cause = answer.cause,
           .at_ns = SystemClock::Get().NowNs()};
  return answer;
}

}  // namespace haven
