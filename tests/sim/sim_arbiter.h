// SPDX-License-Identifier: Apache-2.0
//
// The simulated arbiter: one true register, requests and answers that are late or lost.
#ifndef HAVEN_TESTS_SIM_SIM_ARBITER_H_
#define HAVEN_TESTS_SIM_SIM_ARBITER_H_

#include <functional>
#include <memory>
#include <optional>

#include "engine/membership/register_client.h"
#include "transport/sim/sim_network.h"

namespace haven {

inline constexpr int kArbiterHost = 2;

class SimArbiter {
 public:
  const std::optional<Register>& truth() const { return truth_; }

  RegisterAnswer CompareAndSet(const RegisterRequest& request) {
    if (truth_.has_value() && truth_->stamp == request.desired.stamp) {
      return {Verdict::kGranted, truth_, absl::OkStatus()};
    }
    if (truth_ != request.expected) return {Verdict::kDenied, truth_, absl::OkStatus()};
    truth_ = request.desired;
    return {Verdict::kGranted, truth_, absl::OkStatus()};
  }

 private:
  std::optional<Register> truth_;
};

// One process' way to the arbiter. A request may be carried out long after its answer was given up.
class SimArbiterPort final : public ArbiterPort {
 public:
  SimArbiterPort(SimArbiter& arbiter, SimNetwork& network, int host,
                 std::function<void(const RegisterAnswer&)> answered)
      : arbiter_(arbiter), network_(network), host_(host), answered_(std::move(answered)) {}

  void SubmitRead() override { Submit(std::nullopt); }
  void SubmitChange(const RegisterRequest& request) override { Submit(request); }

 private:
  static constexpr int64_t kTimeoutNs = 100 * kNsPerMs;

  void Submit(const std::optional<RegisterRequest>& request) {
    Scheduler& scheduler = network_.scheduler();
    Random& random = network_.random();
    auto answered = std::make_shared<bool>(false);
    std::weak_ptr<bool> alive = alive_;
    scheduler.After(kTimeoutNs, [this, answered, alive] {
      if (alive.expired() || *answered) return;
      *answered = true;
      answered_({Verdict::kUnknown, std::nullopt,
                 absl::DeadlineExceededError("simulated: the arbiter does not answer")});
    });
    if (!network_.Up(host_, kArbiterHost) || network_.Happens(network_.faults().lost_request))
      return;
    // Now and then a request takes longer than anybody waits for it.
    const int64_t there_ns = random.Chance(1, 20) ? random.Between(0, 400 * kNsPerMs)
                                                  : random.Between(200 * kNsPerUs, 4 * kNsPerMs);
    scheduler.After(there_ns, [this, request, answered, alive, &arbiter = arbiter_,
                               &network = network_, host = host_] {
      RegisterAnswer answer{Verdict::kGranted, arbiter.truth(), absl::OkStatus()};
      if (request.has_value()) answer = arbiter.CompareAndSet(*request);
      if (!network.Up(kArbiterHost, host) || network.Happens(network.faults().lost_answer)) return;
      network.scheduler().After(network.DelayNs(), [this, answer, answered, alive] {
        if (alive.expired() || *answered) return;
        *answered = true;
        answered_(answer);
      });
    });
  }

  SimArbiter& arbiter_;
  SimNetwork& network_;
  const int host_;
  std::function<void(const RegisterAnswer&)> answered_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Ids from the world's seed.
class SimIds final : public IdSource {
 public:
  explicit SimIds(Random& random) : random_(random) {}
  uint64_t NextId() override { return random_.Next() | 1; }

 private:
  Random& random_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_ARBITER_H_
