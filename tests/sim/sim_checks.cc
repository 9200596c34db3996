// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace haven {

void SimChecks::OnFirstCopy(CopyId copy, uint32_t guests) {
  copies_[copy] =
      Copy{std::vector<uint64_t>(guests, 0), std::vector<uint64_t>(guests, UINT64_MAX), {}};
  running_ = copy;
}

void SimChecks::OnCapture(const SimState& state, uint64_t memory_hash) {
  captures_[{state.copy, state.guest, state.step}].insert(memory_hash);
}

void SimChecks::OnRun(CopyId copy, const std::vector<SimState>& states,
                      const std::vector<uint64_t>& memory_hashes,
                      const std::optional<Register>& truth, const std::string& owner) {
  ++promotions_;
  if (!truth.has_value() || truth->owner != owner || !truth->running) {
    return Violate(absl::StrCat("I4: copy ", copy, " runs, the register says ",
                                truth.has_value() ? FormatRegister(*truth) : "absent"));
  }
  const CopyId parent = states.front().copy;
  if (parent != running_) {
    return Violate(absl::StrCat("I4: copy ", copy, " goes on from copy ", parent, ", but copy ",
                                running_, " was the last one to run"));
  }
  for (size_t guest = 0; guest < states.size(); ++guest) {
    const SimState& state = states[guest];
    if (state.copy != parent || state.capture != states.front().capture) {
      return Violate(
          absl::StrCat("I1: copy ", copy, ": guest ", guest, " is of another checkpoint"));
    }
    const auto seen = captures_.find({state.copy, state.guest, state.step});
    if (seen == captures_.end() || !seen->second.contains(memory_hashes[guest])) {
      return Violate(absl::StrCat("I1: copy ", copy, ": guest ", guest, " at step ", state.step,
                                  " has memory that copy ", parent, " never had there"));
    }
  }
  // Everything that any ancestor has let out must be part of the history that goes on.
  Copy made{std::vector<uint64_t>(states.size(), 0),
            std::vector<uint64_t>(states.size(), UINT64_MAX), parent};
  for (std::optional<CopyId> ancestor = parent; ancestor.has_value();
       ancestor = copies_[*ancestor].parent) {
    Copy& old = copies_[*ancestor];
    for (size_t guest = 0; guest < states.size(); ++guest) {
      if (old.released[guest] > states[guest].step) {
        return Violate(absl::StrCat("I3: copy ", copy, " goes on at step ", states[guest].step,
                                    " of guest ", guest, ", copy ", *ancestor, " has let step ",
                                    old.released[guest], " out"));
      }
      old.cut[guest] = std::min(old.cut[guest], states[guest].step);
    }
  }
  copies_[copy] = made;
  running_ = copy;
}

void SimChecks::OnReleased(const SimPacket& packet, const std::optional<Register>& truth,
                           const std::string& owner, std::optional<uint64_t> committed) {
  ++released_;
  Copy& copy = copies_[packet.copy];
  copy.released[packet.guest] = std::max(copy.released[packet.guest], packet.step);
  if (packet.step > copy.cut[packet.guest]) {
    return Violate(absl::StrCat("I4: copy ", packet.copy, " lets step ", packet.step, " of guest ",
                                packet.guest, " out after its successor went on from step ",
                                copy.cut[packet.guest]));
  }
  // Before the first protect there is no register and nothing to wait for.
  const bool open =
      !truth.has_value() ||
      (truth->owner == owner && truth->mode != RegisterMode::kPromotable && truth->running);
  if (open || (committed.has_value() && packet.step <= *committed)) return;
  // Of a history that the register's owner shares: late, and allowed.
  if (copy.cut[packet.guest] != UINT64_MAX) return;
  Violate(absl::StrCat("I2: copy ", packet.copy, " lets step ", packet.step, " of guest ",
                       packet.guest, " out, committed is ", committed.value_or(0), ", register ",
                       truth.has_value() ? FormatRegister(*truth) : "absent"));
}

void SimChecks::OnDeposedDestroyed(const std::optional<Register>& truth, const std::string& owner,
                                   bool successor) {
  if (truth.has_value() && truth->owner != owner && truth->running) {
    if (successor) return;
    return Violate(absl::StrCat("I3: copy of ", owner, " destroyed, and that of ", truth->owner,
                                " is lost and has never run"));
  }
  Violate(absl::StrCat("I3: copy of ", owner, " destroyed, the register says ",
                       truth.has_value() ? FormatRegister(*truth) : "absent"));
}

void SimChecks::OnProtectionEnded(const std::optional<Register>& truth, const std::string& owner) {
  if (truth.has_value() && truth->owner == owner && truth->mode == RegisterMode::kNone) return;
  Violate(absl::StrCat("I2: the protection of ", owner, " has ended, the register says ",
                       truth.has_value() ? FormatRegister(*truth) : "absent"));
}

// Numbers grow, so none comes again, on the same link or on another one.
void SimChecks::OnEpoch(uint64_t session, uint32_t link, uint64_t epoch) {
  LastEpoch& last = epochs_[session];
  if (epoch <= last.epoch) {
    return Violate(absl::StrCat("I1: epoch ", epoch, " is used on link ", link, " after epoch ",
                                last.epoch, " on link ", last.link));
  }
  last = LastEpoch{epoch, link};
}

// Whatever has failed since: what the backup has is not sent again.
void SimChecks::OnCheckpoint(uint64_t pages, uint64_t written) {
  if (pages <= written) return;
  Violate(absl::StrCat("I6: a checkpoint carries ", pages, " pages, the guests have written ",
                       written, " since the last committed one"));
}

// Its successor has a history of its own: whoever is to destroy it must not forget it.
void SimChecks::OnRefused(CopyId copy) {
  const std::vector<uint64_t>& cut = copies_[copy].cut;
  if (std::all_of(cut.begin(), cut.end(), [](uint64_t step) { return step == UINT64_MAX; })) return;
  Violate(absl::StrCat("I4: copy ", copy, " is let go although another one went on from it"));
}

void SimChecks::OnBarrier(bool all_stopped) {
  if (!all_stopped) Violate("I2: the output barrier was set while a guest was running");
}

}  // namespace haven
