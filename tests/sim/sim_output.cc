// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_output.h"

#include "engine/base/check.h"
#include "tests/sim/sim_guest.h"

namespace haven {

absl::Status SimOutput::MayFail() {
  SimGuestWorld& world = group_.world();
  if (!world.chances.Happens(SimGuestFault::kOutputFails)) return absl::OkStatus();
  return absl::UnavailableError("simulated: the qdisc does not answer");
}

void SimOutput::Emit(const SimPacket& packet) {
  if (passing_) return group_.Released(packet);
  if (queue_.size() == kHeldMax) {
    ++dropped_;
    return;
  }
  queue_.push_back(packet);
  ++current_;
}

void SimOutput::Drain() {
  for (; to_release_ > 0 && !queue_.empty(); --to_release_) {
    const SimPacket packet = queue_.front();
    queue_.pop_front();
    group_.Released(packet);
  }
}

void SimOutput::DrainAll() {
  to_release_ = queue_.size();
  Drain();
  current_ = last_ = to_release_ = 0;
}

absl::Status SimOutput::Hold() {
  if (absl::Status status = MayFail(); !status.ok()) return status;
  if (!passing_) return absl::OkStatus();
  passing_ = false;
  current_ = last_ = to_release_ = 0;
  return absl::OkStatus();
}

absl::Status SimOutput::Barrier() {
  group_.world().checks.OnBarrier(group_.AllToldStopped());
  if (absl::Status status = MayFail(); !status.ok()) {
    broken_ = true;
    return status;
  }
  last_ = current_;
  current_ = 0;
  return absl::OkStatus();
}

absl::Status SimOutput::ReleaseOne() {
  if (absl::Status status = MayFail(); !status.ok()) {
    broken_ = true;
    return status;
  }
  to_release_ += last_;
  last_ = 0;
  Drain();
  return absl::OkStatus();
}

absl::Status SimOutput::OpenAll() {
  if (absl::Status status = MayFail(); !status.ok()) return status;
  passing_ = true;
  broken_ = false;
  DrainAll();
  return absl::OkStatus();
}

// What was held goes or is lost, as the buffer's kind has it: the seed says which.
absl::Status SimOutput::Rebuild() {
  if (absl::Status status = MayFail(); !status.ok()) return status;
  if (!group_.world().rebuild_releases) queue_.clear();
  DrainAll();
  passing_ = false;
  broken_ = false;
  return absl::OkStatus();
}

absl::Status SimOutput::Discard() {
  queue_.clear();
  return absl::OkStatus();
}

absl::Status SimOutput::Health() {
  return broken_ ? absl::UnavailableError("simulated: the buffer is in doubt") : absl::OkStatus();
}

}  // namespace haven
