// SPDX-License-Identifier: Apache-2.0
//
// A simulated group of guests on one host: dirty log, suspension, end. Outlives engines.
#ifndef HAVEN_TESTS_SIM_SIM_GUEST_H_
#define HAVEN_TESTS_SIM_SIM_GUEST_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/random.h"
#include "engine/primary/domain.h"
#include "tests/sim/sim_checks.h"
#include "tests/sim/sim_faults.h"
#include "tests/sim/sim_memory.h"
#include "tests/sim/sim_output.h"
#include "transport/sim/scheduler.h"
#include "transport/sim/sim_chances.h"

namespace haven {

struct SimGuestWorld {
  Scheduler& scheduler;
  Random& random;
  SimChecks& checks;
  SimChances<SimGuestFault> chances{random};
  bool bursts = true;             // Now and then guests write more than an epoch holds.
  bool rebuild_releases = false;  // A buffer that is built anew lets go what it held.
  int64_t resume_ns = 0;          // A guest that is let go runs so much later at most.
  uint64_t next_capture = 1;
  // With coded pages guests also write what stands elsewhere already, and write it again.
  std::optional<Random> copies = std::nullopt;
  // Others let guests go on that stand, also in the middle of a checkpoint.
  std::optional<Random> meddler = std::nullopt;
  uint64_t let_go = 0;  // So many.
  // Some guests of a group had stopped, and are let run again before the others have stopped.
  std::function<void()> suspend_aborted = nullptr;
};

class SimGroup;

class SimGuest final : public Domain, public SuspendMethod {
 public:
  SimGuest(SimGroup& group, uint32_t index);

  // Work of one time slice.
  void RunSlice(bool burst);
  // A copy whose promotion was broken off: nothing runs until LetRun().
  void Wait() { waits_ = true; }
  bool waits() const { return waits_ && !ended(); }
  // Somebody who is not the engine lets it go on, if it stands.
  void LetGo();
  // It ends by itself, or something outside ends it. Nothing brings it back.
  void EndAs(DomainEnd end);

  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return memory_->view(); }
  absl::Status EnableLogDirty() override;
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override;
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override;
  absl::StatusOr<uint64_t> CountDirty() override;
  void DisableLogDirty() override { logging_ = false; }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override;
  size_t max_state_bytes() const override { return kSimStateBytes; }
  DomainEnd End() override { return end_; }
  absl::Status LetRun() override;
  absl::Status Destroy() override;

  absl::Status Request() override;
  State Poll() override;
  absl::Status Resume() override;
  int event_fd() const override { return -1; }

  bool stopped() const { return suspended_ || waits_ || ended(); }
  // As far as the engine can know: it has stopped, and the engine has not let it go on.
  bool told_stopped() const { return stopped() || let_go_; }
  bool ended() const { return end_ != DomainEnd::kNone; }
  // Pages written by the guest after this step of its life.
  uint64_t PagesSince(uint64_t step) const;
  uint64_t step() const { return step_; }
  // What was fetched at this step or later was written after the step returned: before the last
  // fetch, too, where the log was kept. UINT64_MAX: none of it was.
  uint64_t FetchedSince(uint64_t step);
  // Becomes the guest that this state and memory describe.
  void Adopt(const SimState& state, std::unique_ptr<SimGuestMemory> memory);

 private:
  absl::Status Gone() const;

  SimGroup& group_;
  const uint32_t index_;
  DomainInfo info_;
  std::unique_ptr<SimGuestMemory> memory_;
  std::vector<uint64_t> dirty_;
  std::vector<uint64_t> written_at_;  // Step of the last write, by page.
  DomainEnd end_ = DomainEnd::kNone;
  bool logging_ = false;
  bool log_lost_ = false;  // Since the last fetch.
  uint64_t cleared_at_ = 0;
  uint64_t fetched_at_ = 0;
  // Steps of fetches from a log that had been kept, and of when it was cleared before.
  struct KeptFetch {
    uint64_t step = 0;
    uint64_t cleared_at = 0;
  };
  std::deque<KeptFetch> kept_fetches_;
  bool waits_ = false;
  bool suspended_ = false;
  bool let_go_ = false;  // By others, since it was suspended.
  uint64_t suspend_request_ = 0;
  uint64_t step_ = 0;
};

class SimGroup {
 public:
  SimGroup(SimGuestWorld& world, CopyId copy, uint32_t guests, std::string owner,
           std::function<void(const SimPacket&)> released, std::function<void()> wake);

  SimGuestWorld& world() { return world_; }
  CopyId copy() const { return copy_; }
  // The name under which this copy owns the register. A copy that is protected again gets another
  // one.
  const std::string& owner() const { return owner_; }
  void Rename(std::string owner) { owner_ = std::move(owner); }
  SimOutput& output() { return output_; }
  const SimOutput& output() const { return output_; }
  std::vector<std::unique_ptr<SimGuest>>& guests() { return guests_; }
  bool AllStopped() const;
  bool AllToldStopped() const;
  bool AnyEnded() const;
  bool AllEnded() const;
  bool AnyVanished() const;
  bool AllVanished() const;
  bool OthersRun(const SimGuest* guest) const;
  void Released(const SimPacket& packet) { released_(packet); }
  // An engine that has died is not to be woken.
  void Wake() {
    if (wake_) wake_();
  }
  void RunSlice();
  uint64_t NextCapture(uint32_t guest);
  // The dirty log, or what was captured by it, is lost: the engine knows only that all is dirty.
  void LoseLog() { all_dirty_capture_ = world_.next_capture; }
  // The first capture that can be free of that.
  uint64_t all_dirty_capture() const { return all_dirty_capture_; }
  void CopySomething(Random& random, std::byte* to);

 private:
  SimGuestWorld& world_;
  const CopyId copy_;
  std::string owner_;
  std::function<void(const SimPacket&)> released_;
  std::function<void()> wake_;
  SimOutput output_{*this};
  std::vector<std::unique_ptr<SimGuest>> guests_;
  uint64_t capture_ = 0;
  uint64_t all_dirty_capture_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_GUEST_H_
