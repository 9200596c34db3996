// SPDX-License-Identifier: Apache-2.0
//
// The copy of a simulated guest that waits on a backup.
#ifndef HAVEN_TESTS_SIM_SIM_REPLICA_H_
#define HAVEN_TESTS_SIM_SIM_REPLICA_H_

#include <functional>
#include <memory>
#include <utility>

#include "engine/backup/replica_domain.h"
#include "tests/sim/sim_guest.h"
#include "tests/sim/sim_life.h"

namespace haven {

class SimReplica final : public ReplicaDomain {
 public:
  // `announce`: called before it outlives its process, as from then on a copy may run here.
  SimReplica(SimGuestWorld& world, SimLife& life, std::function<absl::Status()> announce)
      : world_(world),
        life_(life),
        announce_(std::move(announce)),
        memory_(std::make_unique<SimGuestMemory>()) {}

  const GuestMemory& memory() const override { return memory_->view(); }
  absl::Status CheckState(std::span<const std::byte> state) const override;
  absl::Status Prepare(std::span<const std::byte> state) override;
  absl::Status Outlive() override;
  absl::Status Run() override;
  absl::Status Abandon() override;

  // From now on it takes no state; one that is destroyed can not be prepared, either.
  void Lose(bool destroyed) {
    lost_ = true;
    destroyed_ |= destroyed;
  }

  bool lost() const { return lost_; }
  bool running() const { return running_; }
  // It is a guest, or may become one without its session.
  bool outlives() const { return outlives_ && !abandoned_; }
  bool prepare_failed() const { return prepare_failed_; }
  const SimState& state() const { return state_; }
  uint64_t Hash() { return memory_->Hash(); }
  bool SpecialUntouched() const { return memory_->SpecialUntouched(); }
  std::unique_ptr<SimGuestMemory> TakeMemory() { return std::move(memory_); }

 private:
  SimGuestWorld& world_;
  SimLife& life_;
  std::function<absl::Status()> announce_;
  std::unique_ptr<SimGuestMemory> memory_;
  SimState state_;
  bool lost_ = false;
  bool destroyed_ = false;
  bool outlives_ = false;
  bool running_ = false;
  bool prepare_failed_ = false;
  bool abandoned_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_REPLICA_H_
