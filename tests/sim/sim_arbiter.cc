// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_arbiter.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {

RegisterAnswer SimArbiter::CompareAndSet(const RegisterRequest& request) {
  const absl::Status valid = ValidateRequest(request);
  if (!valid.ok()) {
    checks_.Violate(absl::StrCat("I4: no arbiter takes this request: ", valid.message()));
  }
  if (truth_.has_value() && truth_->stamp == request.desired.stamp) {
    return {Verdict::kGranted, truth_, absl::OkStatus()};
  }
  if (truth_ != request.expected) return {Verdict::kDenied, truth_, absl::OkStatus()};
  // An operator may say no whatever the register holds; no other try of it is carried out later.
  if (denied_.contains(request.desired.stamp) || network_.Happens(SimWireFault::kDenied)) {
    denied_.insert(request.desired.stamp);
    return {Verdict::kDenied, truth_, absl::OkStatus()};
  }
  truth_ = request.desired;
  return {Verdict::kGranted, truth_, absl::OkStatus()};
}

// One request at a time: whoever asks again before the answer has an unbounded number of them.
void SimArbiterPort::Submit(const std::optional<RegisterRequest>& request) {
  if (!life_.Acts()) return;
  if (std::exchange(asked_, true)) {
    arbiter_.checks().Violate("I5: the arbiter is asked again before its answer");
  }
  Scheduler& scheduler = network_.scheduler();
  Random& random = network_.random();
  auto answered = std::make_shared<bool>(false);
  std::weak_ptr<bool> alive = alive_;
  scheduler.After(kTimeoutNs, [this, answered, alive] {
    if (alive.expired()) return;
    Answer(answered, {Verdict::kUnknown, std::nullopt,
                      absl::DeadlineExceededError("simulated: the arbiter does not answer")});
  });
  if (!network_.Up(host_, kArbiterHost) || network_.Happens(SimWireFault::kLostRequest)) return;
  // Now and then a request takes longer than anybody waits for it.
  const int64_t there_ns = random.Chance(1, 20) && !arbiter_.prompt()
                               ? random.Between(0, 400 * kNsPerMs)
                               : random.Between(200 * kNsPerUs, 4 * kNsPerMs);
  scheduler.After(there_ns, [this, request, answered, alive, &arbiter = arbiter_,
                             &network = network_, host = host_] {
    RegisterAnswer answer{Verdict::kGranted, arbiter.truth(), absl::OkStatus()};
    if (request.has_value()) answer = arbiter.CompareAndSet(*request);
    if (!network.Up(kArbiterHost, host) || network.Happens(SimWireFault::kLostAnswer)) return;
    network.scheduler().After(network.DelayNs(), [this, answer, answered, alive] {
      if (!alive.expired()) Answer(answered, answer);
    });
  });
}

void SimArbiterPort::Answer(const std::shared_ptr<bool>& answered, const RegisterAnswer& answer) {
  if (std::exchange(*answered, true)) return;
  asked_ = false;
  answered_(answer);
}

}  // namespace haven
