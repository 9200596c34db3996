// SPDX-License-Identifier: Apache-2.0
//
// A simulated group of guests on one host: memory, dirty log, suspension, output. Outlives engines.
#ifndef HAVEN_TESTS_SIM_SIM_GUEST_H_
#define HAVEN_TESTS_SIM_SIM_GUEST_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/backup/replica_domain.h"
#include "engine/base/random.h"
#include "engine/primary/domain.h"
#include "engine/primary/output_buffer.h"
#include "tests/sim/sim_checks.h"
#include "transport/sim/scheduler.h"

namespace haven {

inline constexpr uint64_t kSimPages = 80;
inline constexpr uint64_t kSimSpecialPage = 78;  // Not RAM: the engine must leave it alone.
inline constexpr size_t kSimStateBytes = 64;

void EncodeSimState(const SimState& state, std::span<std::byte> out);
SimState DecodeSimState(std::span<const std::byte> in);

// How guests and hypervisor misbehave just now; shared by all of a world.
struct SimGuestFaults {
  uint32_t fetch_fails = 0;  // Chances out of 1000.
  uint32_t log_lost = 0;
  uint32_t suspend_ignored = 0;
  uint32_t capture_fails = 0;
  uint32_t output_fails = 0;
  uint32_t prepare_fails = 0;
  uint32_t run_fails = 0;
};

struct SimGuestWorld {
  Scheduler& scheduler;
  Random& random;
  SimChecks& checks;
  SimGuestFaults faults;
  uint64_t next_capture = 1;
};

// Plain memory as a guest has it.
class SimGuestMemory {
 public:
  SimGuestMemory();
  const GuestMemory& view() const { return view_; }
  std::byte* page(Gfn gfn) { return storage_.data() + gfn * kPageBytes; }
  uint32_t Hash() const;  // Of all RAM pages.

 private:
  std::vector<std::byte> storage_;
  GuestMemory view_;
};

class SimGroup;

class SimGuest final : public Domain, public SuspendMethod {
 public:
  SimGuest(SimGroup& group, uint32_t index);

  // Work of one time slice.
  void RunSlice(bool burst);

  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return memory_->view(); }
  absl::Status EnableLogDirty() override;
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override;
  void DisableLogDirty() override { logging_ = false; }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override;
  size_t max_state_bytes() const override { return kSimStateBytes; }
  DomainEnd End() override { return DomainEnd::kNone; }
  absl::Status Destroy() override { return absl::OkStatus(); }

  absl::Status Request() override;
  State Poll() override { return suspended_ ? State::kSuspended : State::kRunning; }
  absl::Status Resume() override;
  int event_fd() const override { return -1; }

  bool suspended() const { return suspended_; }
  uint64_t step() const { return step_; }
  // Becomes the guest that this state and memory describe.
  void Adopt(const SimState& state, std::unique_ptr<SimGuestMemory> memory);

 private:
  SimGroup& group_;
  const uint32_t index_;
  DomainInfo info_;
  std::unique_ptr<SimGuestMemory> memory_;
  std::vector<uint64_t> dirty_;
  bool logging_ = false;
  bool suspended_ = false;
  uint64_t suspend_request_ = 0;
  uint64_t step_ = 0;
};

// The plug qdisc's behaviour, counters and all (facts: net/sched/sch_plug.c).
class SimOutput final : public OutputBuffer {
 public:
  explicit SimOutput(SimGroup& group) : group_(group) {}
  void Emit(const SimPacket& packet);

  absl::Status Hold() override;
  absl::Status Barrier() override;
  absl::Status ReleaseOne() override;
  absl::Status OpenAll() override;
  absl::Status Rebuild() override;
  absl::Status Discard() override;
  absl::Status Remove() override { return OpenAll(); }
  OutputStats stats() override { return {}; }
  absl::Status Health() override;

 private:
  absl::Status MayFail();
  void Drain();

  SimGroup& group_;
  std::deque<SimPacket> queue_;
  uint64_t current_ = 0;
  uint64_t last_ = 0;
  uint64_t to_release_ = 0;
  bool passing_ = true;
  bool broken_ = false;
};

class SimGroup {
 public:
  SimGroup(SimGuestWorld& world, CopyId copy, uint32_t guests, std::string owner,
           std::function<void(const SimPacket&)> released, std::function<void()> wake);

  SimGuestWorld& world() { return world_; }
  CopyId copy() const { return copy_; }
  const std::string& owner() const { return owner_; }
  SimOutput& output() { return output_; }
  std::vector<std::unique_ptr<SimGuest>>& guests() { return guests_; }
  bool AllStopped() const;
  void Released(const SimPacket& packet) { released_(packet); }
  // An engine that has died is not to be woken.
  void Wake() {
    if (wake_) wake_();
  }
  void RunSlice();
  uint64_t NextCapture(uint32_t guest);

 private:
  SimGuestWorld& world_;
  const CopyId copy_;
  const std::string owner_;
  std::function<void(const SimPacket&)> released_;
  std::function<void()> wake_;
  SimOutput output_{*this};
  std::vector<std::unique_ptr<SimGuest>> guests_;
  uint64_t capture_ = 0;
};

// The copy that waits on a backup.
class SimReplica final : public ReplicaDomain {
 public:
  explicit SimReplica(SimGuestWorld& world)
      : world_(world), memory_(std::make_unique<SimGuestMemory>()) {}

  const GuestMemory& memory() const override { return memory_->view(); }
  absl::Status CheckState(std::span<const std::byte> state) const override;
  absl::Status Prepare(std::span<const std::byte> state) override;
  absl::Status Run() override;
  absl::Status Abandon() override;

  bool running() const { return running_; }
  const SimState& state() const { return state_; }
  uint32_t Hash() const { return memory_->Hash(); }
  std::unique_ptr<SimGuestMemory> TakeMemory() { return std::move(memory_); }

 private:
  SimGuestWorld& world_;
  std::unique_ptr<SimGuestMemory> memory_;
  SimState state_;
  bool running_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_GUEST_H_
