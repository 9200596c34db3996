// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/register_client.h"

#include <utility>

#include "engine/base/check.h"

namespace haven {

void RegisterClient::Read(int64_t now_ns) {
  if (purpose_ == RegisterPurpose::kRead) return;
  HAVEN_CHECK(!busy()) << "a read while a change is unresolved";
  purpose_ = RegisterPurpose::kRead;
  asked_ns_ = now_ns;
  Submit();
}

void RegisterClient::Change(RegisterPurpose purpose, const std::optional<Register>& expected,
                            Register desired, int64_t now_ns) {
  HAVEN_CHECK(purpose != RegisterPurpose::kNothing && purpose != RegisterPurpose::kRead);
  HAVEN_CHECK(!change_pending()) << "two changes at once";
  desired.stamp = ids_.NextId();
  request_ = RegisterRequest{expected, std::move(desired)};
  purpose_ = purpose;
  asked_ns_ = now_ns;
  if (in_flight_) {
    discard_answer_ = true;
    retry_at_ns_ = kNever;
    return;
  }
  Submit();
}

void RegisterClient::Submit() {
  retry_at_ns_ = kNever;
  in_flight_ = true;
  if (purpose_ == RegisterPurpose::kRead) {
    port_.SubmitRead();
  } else {
    port_.SubmitChange(request_);
  }
}

std::optional<RegisterClient::Outcome> RegisterClient::OnAnswer(const RegisterAnswer& answer,
                                                                int64_t now_ns) {
  HAVEN_CHECK(in_flight_) << "an answer without a request";
  in_flight_ = false;
  if (discard_answer_) {
    discard_answer_ = false;
    Submit();
    return std::nullopt;
  }
  if (answer.verdict == Verdict::kUnknown) {
    last_cause_ = answer.cause;
    retry_at_ns_ = now_ns + retry_ns_;
    return std::nullopt;
  }
  known_ = answer.current;
  last_cause_ = absl::OkStatus();
  return Outcome{std::exchange(purpose_, RegisterPurpose::kNothing), answer.verdict,
                 answer.current};
}

void RegisterClient::OnTick(int64_t now_ns) {
  if (now_ns >= retry_at_ns_) Submit();
}

}  // namespace haven
