// SPDX-License-Identifier: Apache-2.0
//
// What a simulated engine has hold of: guests and output outlive it, its hold does not.
#ifndef HAVEN_TESTS_SIM_SIM_ENGINE_PORTS_H_
#define HAVEN_TESTS_SIM_SIM_ENGINE_PORTS_H_

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "tests/sim/sim_guest.h"
#include "tests/sim/sim_life.h"

namespace haven {

// As RecordedDomain (engine/cli): the first session is written down before it begins.
class SimEngineGuest final : public Domain, public SuspendMethod {
 public:
  using Protecting = std::function<absl::Status(SimLife&)>;
  SimEngineGuest(SimGuest& guest, SimLife& life, Protecting protecting)
      : guest_(guest), life_(life), protecting_(std::move(protecting)) {}

  const DomainInfo& info() const override { return guest_.info(); }
  const GuestMemory& memory() const override { return guest_.memory(); }
  size_t max_state_bytes() const override { return guest_.max_state_bytes(); }
  int event_fd() const override { return guest_.event_fd(); }
  DomainEnd End() override { return life_.dead() ? DomainEnd::kNone : guest_.End(); }
  SuspendMethod::State Poll() override {
    return life_.dead() ? SuspendMethod::State::kRunning : guest_.Poll();
  }

  absl::Status EnableLogDirty() override {
    HAVEN_RETURN_IF_ERROR(protecting_(life_));
    return life_.Acts() ? guest_.EnableLogDirty() : SimDead();
  }
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override {
    return life_.Acts() ? guest_.FetchAndClearDirty(bitmap) : SimDead();
  }
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override {
    return life_.Acts() ? guest_.FetchDirty(bitmap) : SimDead();
  }
  absl::StatusOr<uint64_t> CountDirty() override {
    if (!life_.Acts()) return SimDead();
    return guest_.CountDirty();
  }
  void DisableLogDirty() override {
    if (life_.Acts()) guest_.DisableLogDirty();
  }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override {
    if (!life_.Acts()) return SimDead();
    return guest_.CaptureState(out);
  }
  absl::Status Destroy() override { return life_.Acts() ? guest_.Destroy() : SimDead(); }
  absl::Status Request() override { return life_.Acts() ? guest_.Request() : SimDead(); }
  absl::Status Resume() override { return life_.Acts() ? guest_.Resume() : SimDead(); }

 private:
  SimGuest& guest_;
  SimLife& life_;
  const Protecting protecting_;
};

class SimEngineOutput final : public OutputBuffer {
 public:
  SimEngineOutput(SimOutput& output, SimLife& life) : output_(output), life_(life) {}

  absl::Status Hold() override { return life_.Acts() ? output_.Hold() : SimDead(); }
  absl::Status Barrier() override { return life_.Acts() ? output_.Barrier() : SimDead(); }
  absl::Status ReleaseOne() override { return life_.Acts() ? output_.ReleaseOne() : SimDead(); }
  absl::Status OpenAll() override { return life_.Acts() ? output_.OpenAll() : SimDead(); }
  absl::Status Rebuild() override { return life_.Acts() ? output_.Rebuild() : SimDead(); }
  absl::Status Discard() override { return life_.Acts() ? output_.Discard() : SimDead(); }
  absl::Status Remove() override { return life_.Acts() ? output_.Remove() : SimDead(); }
  OutputStats stats() override { return output_.stats(); }
  absl::Status Health() override { return life_.dead() ? absl::OkStatus() : output_.Health(); }

 private:
  SimOutput& output_;
  SimLife& life_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_ENGINE_PORTS_H_
