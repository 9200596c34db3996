// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_replica.h"

#include "engine/base/check.h"

namespace haven {

absl::Status SimReplica::CheckState(std::span<const std::byte> state) const {
  if (state.size() == kSimStateBytes) return absl::OkStatus();
  return absl::InvalidArgumentError("simulated: a state of the wrong size");
}

absl::Status SimReplica::Prepare(std::span<const std::byte> state) {
  HAVEN_CHECK(!abandoned_);
  announce_();
  if (world_.random.Below(1000) < world_.faults.prepare_fails) {
    prepare_failed_ = true;
    return absl::InternalError("simulated: the context can not be set");
  }
  state_ = DecodeSimState(state);
  return absl::OkStatus();
}

// Called again after it took effect it is OK: the answer may have been lost.
absl::Status SimReplica::Run() {
  HAVEN_CHECK(!abandoned_);
  if (running_) return absl::OkStatus();
  SimGuestFaults& faults = world_.faults;
  if (faults.run_fails_once > 0) {
    --faults.run_fails_once;
    return absl::UnavailableError("simulated: this guest does not start yet");
  }
  if (world_.random.Below(1000) < faults.run_fails) {
    return absl::UnavailableError("simulated: the toolstack does not answer");
  }
  running_ = true;
  if (world_.random.Below(1000) >= faults.run_answer_lost) return absl::OkStatus();
  return absl::UnavailableError("simulated: it runs, and the answer is lost");
}

absl::Status SimReplica::Abandon() {
  HAVEN_CHECK(!running_);
  if (world_.random.Below(1000) < world_.faults.abandon_fails) {
    return absl::UnavailableError("simulated: the copy can not be destroyed yet");
  }
  abandoned_ = true;
  return absl::OkStatus();
}

}  // namespace haven
