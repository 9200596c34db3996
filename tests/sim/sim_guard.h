// SPDX-License-Identifier: Apache-2.0
//
// A simulated guard: what engine/control/guard.h does, with the production Recovery inside, in
// events instead of waits.
#ifndef HAVEN_TESTS_SIM_SIM_GUARD_H_
#define HAVEN_TESTS_SIM_SIM_GUARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/control/group_record.h"
#include "engine/membership/recovery.h"
#include "tests/sim/sim_coverage.h"
#include "tests/sim/sim_engine.h"

namespace haven {

class SimWorld;

// What of a host's GroupRecord decides anything. It is on the disk when Save() returns, or not at
// all: WriteFileAtomically.
struct SimRecord {
  std::string owner;
  GroupPhase phase = GroupPhase::kNew;
};

class SimGuard final : public RecoveryActions, public std::enable_shared_from_this<SimGuard> {
 public:
  SimGuard(SimWorld& world, int host);
  ~SimGuard() override;

  // Guard::Run: all that this process knows is in the host's record and in the guests it finds.
  void Start();

  // From outside.
  SimLife& life() { return life_; }
  const SimLife& life() const { return life_; }
  // Null: there is none that lives.
  std::shared_ptr<SimEngine> engine() const;
  const Recovery* recovery() const { return recovery_.get(); }
  void HangUntil(int64_t until_ns);
  bool hung() const;
  void Wake() {
    if (loop_ != nullptr) loop_->Wake();
  }
  // The engine is killed; the guard sees it soon.
  void KillEngine();
  // The guard is killed; its engine dies with it (PR_SET_PDEATHSIG).
  void Die();
  // kCount: it has an engine.
  SimGuardState state() const;
  // A request of this process or its engine is under way.
  bool asks_arbiter() const;

  // Looked at by the bounds of all waits.
  std::optional<int64_t> reasonless_since_ns;

  // RecoveryActions.
  void ResumeGuests() override;
  void StopGuests() override;
  void DestroyGuests() override;
  void Report(const char* cause) override;

 private:
  SimGroup& group();
  void Later(int64_t ns, std::function<void()> run);
  absl::Status SavePhase(GroupPhase phase);
  void GiveUp(const absl::Status& cause);
  void Recover(bool deposed);
  void Drive();
  void OnRecovered();
  void OpenAndGoOn();
  absl::Status LetRun();
  void StartEngine();
  void AfterEngine();
  void EndProtection();
  void End();
  void DropEngine();
  void DropRecovery();

  SimWorld& world_;
  const int host_;
  SimLife life_;
  std::shared_ptr<SimEngine> engine_;
  std::unique_ptr<SimArbiterPort> port_;
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<SimLoop> loop_;
  std::optional<absl::Status> destroyed_;  // The answer to DestroyGuests.
  std::optional<Register> register_;
  bool ending_ = false;   // What is claimed is the end of the protection.
  bool closing_ = false;  // EndProtection.
  int64_t hung_until_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_GUARD_H_
