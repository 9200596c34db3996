// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_replica.h"

#include "engine/base/check.h"

namespace haven {

absl::Status SimReplica::CheckState(std::span<const std::byte> state) const {
  if (lost_) return absl::AbortedError("simulated: the copy is lost");
  if (state.size() == kSimStateBytes) return absl::OkStatus();
  return absl::InvalidArgumentError("simulated: a state of the wrong size");
}

absl::Status SimReplica::Prepare(std::span<const std::byte> state) {
  if (!life_.Acts()) return SimDead();
  HAVEN_CHECK(!abandoned_);
  absl::Status status;
  if (destroyed_) status = absl::NotFoundError("simulated: there is no copy");
  if (status.ok() && world_.chances.Happens(SimGuestFault::kPrepareFails)) {
    status = absl::InternalError("simulated: the context can not be set");
  }
  if (!status.ok()) {
    prepare_failed_ = true;
    return status;
  }
  state_ = DecodeSimState(state);
  return absl::OkStatus();
}

absl::Status SimReplica::Outlive() {
  if (!life_.Acts()) return SimDead();
  HAVEN_CHECK(!abandoned_);
  const absl::Status status = announce_();
  if (!life_.Acts()) return SimDead();
  prepare_failed_ |= !status.ok();
  outlives_ |= status.ok();
  return status;
}

// Called again after it took effect it is OK: the answer may have been lost.
absl::Status SimReplica::Run() {
  if (!life_.Acts()) return SimDead();
  HAVEN_CHECK(!abandoned_);
  if (running_) return absl::OkStatus();
  if (world_.chances.Happens(SimGuestFault::kRunFails)) {
    return absl::UnavailableError("simulated: the toolstack does not answer");
  }
  running_ = true;
  if (!world_.chances.Happens(SimGuestFault::kRunAnswerLost)) return absl::OkStatus();
  return absl::UnavailableError("simulated: it runs, and the answer is lost");
}

absl::Status SimReplica::Abandon() {
  if (!life_.Acts()) return SimDead();
  HAVEN_CHECK(!running_);
  if (world_.chances.Happens(SimGuestFault::kAbandonFails)) {
    return absl::UnavailableError("simulated: the copy can not be destroyed yet");
  }
  abandoned_ = true;
  return absl::OkStatus();
}

}  // namespace haven
