// SPDX-License-Identifier: Apache-2.0
//
// The simulated arbiter: one true register, requests and answers that are late, lost or refused.
#ifndef HAVEN_TESTS_SIM_SIM_ARBITER_H_
#define HAVEN_TESTS_SIM_SIM_ARBITER_H_

#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "engine/membership/register_client.h"
#include "tests/sim/sim_checks.h"
#include "tests/sim/sim_life.h"
#include "transport/sim/sim_network.h"

namespace haven {

inline constexpr int kArbiterHost = 2;

class SimArbiter {
 public:
  SimArbiter(SimNetwork& network, SimChecks& checks) : network_(network), checks_(checks) {}

  const std::optional<Register>& truth() const { return truth_; }
  SimChecks& checks() { return checks_; }
  // From now on no request takes longer than anybody waits for it.
  void SetPrompt() { prompt_ = true; }
  bool prompt() const { return prompt_; }

  RegisterAnswer CompareAndSet(const RegisterRequest& request);

 private:
  SimNetwork& network_;
  SimChecks& checks_;
  std::optional<Register> truth_;
  std::set<RequestId> denied_;  // By the operator's word.
  bool prompt_ = false;
};

// One process' way to the arbiter. A request may be carried out long after its answer was given up.
class SimArbiterPort final : public ArbiterPort {
 public:
  SimArbiterPort(SimArbiter& arbiter, SimNetwork& network, SimLife& life, int host,
                 std::function<void(const RegisterAnswer&)> answered)
      : arbiter_(arbiter),
        network_(network),
        life_(life),
        host_(host),
        answered_(std::move(answered)) {}

  void SubmitRead() override { Submit(std::nullopt); }
  void SubmitChange(const RegisterRequest& request) override { Submit(request); }

 private:
  static constexpr int64_t kTimeoutNs = 100 * kNsPerMs;

  void Submit(const std::optional<RegisterRequest>& request);
  void Answer(const std::shared_ptr<bool>& answered, const RegisterAnswer& answer);

  SimArbiter& arbiter_;
  SimNetwork& network_;
  SimLife& life_;
  const int host_;
  std::function<void(const RegisterAnswer&)> answered_;
  bool asked_ = false;  // An answer is owed.
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
