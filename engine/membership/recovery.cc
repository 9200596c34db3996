// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/recovery.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

Recovery::Recovery(const RecoveryConfig& config, RecoveryActions& actions, ArbiterPort& arbiter,
                   IdSource& ids)
    : config_(config), actions_(actions), register_(arbiter, ids, config.arbiter_retry_ns) {}

void Recovery::StartAfterCrash(int64_t now_ns) {
  since_ns_ = now_ns;
  actions_.ResumeGuests();
  Report("no engine: output held until the arbiter says who owns the group");
  register_.Read(now_ns);
}

void Recovery::StartDeposed(int64_t now_ns) {
  since_ns_ = now_ns;
  state_ = State::kDeposed;
  Stop();
  Report("deposed: stopped, output held until the new copy runs");
  register_.Read(now_ns);
}

// What lasts is told once.
void Recovery::Report(const char* cause) {
  if (absl::string_view(cause_) == cause) return;
  cause_ = cause;
  actions_.Report(cause);
}

void Recovery::Stop() {
  if (paused_) return;
  paused_ = true;
  actions_.StopGuests();
}

void Recovery::AskAgain(int64_t now_ns) { ask_at_ns_ = now_ns + config_.poll_ns; }

void Recovery::OnArbiterAnswer(const RegisterAnswer& answer, int64_t now_ns) {
  const auto result = register_.OnAnswer(answer, now_ns);
  if (!result.has_value() || state_ == State::kDone || state_ == State::kDestroying) return;
  since_ns_ = now_ns;
  if (result->purpose != RegisterPurpose::kRead && result->verdict == Verdict::kGranted) {
    if (std::exchange(paused_, false)) actions_.ResumeGuests();
    return End(Outcome::kOpen, config_.ending ? "this copy owns the group: not protected any more"
                                              : "this copy owns the group: running alone");
  }
  const bool ours = result->current.has_value() && result->current->owner == config_.owner;
  // Denied and still this copy's: something has changed meanwhile, or somebody says no, who is not
  // to be asked again at once.
  if (result->purpose != RegisterPurpose::kRead && ours) return AskAgain(now_ns);
  if (config_.is_new) return EvaluateNew(result->current, now_ns);
  Evaluate(result->current, now_ns);
}

void Recovery::End(Outcome outcome, const char* cause) {
  state_ = State::kDone;
  outcome_ = outcome;
  Report(cause);
}

// A copy that is to be protected for the first time. An earlier copy of the same node that is not
// promotable any more has left the group behind: on this node there is only this copy now.
void Recovery::EvaluateNew(const std::optional<Register>& current, int64_t now_ns) {
  if (!current.has_value()) return End(Outcome::kAbsent, "the group has no register yet");
  if (current->owner == config_.owner) return Claim(*current, current->term, now_ns);
  const auto node = [](const std::string& owner) { return owner.substr(0, owner.rfind('.')); };
  if (node(current->owner) == node(config_.owner) && current->running &&
      current->mode != RegisterMode::kPromotable) {
    return Claim(*current, current->term + 1, now_ns);
  }
  End(Outcome::kRefused, "the group belongs to another copy");
}

// Acts on what the register says now.
void Recovery::Evaluate(const std::optional<Register>& current, int64_t now_ns) {
  if (!current.has_value()) {
    Report("the register is gone: restore it; the output stays held");
    return AskAgain(now_ns);
  }
  if (HAVEN_MUTANT(kGuardOpensWithoutGrant) && current->owner == config_.owner) {
    state_ = State::kDone;
    outcome_ = Outcome::kOpen;
    return;
  }
  if (current->owner == config_.owner) {
    if (current->running || config_.whole) return Claim(*current, current->term, now_ns);
    // Nobody has seen any of it, and whoever had the term before may take it back.
    state_ = State::kDestroying;
    Report("the promotion was not finished, and not all of the copy is here: destroying it");
    return actions_.DestroyGuests();
  }
  if (state_ == State::kClaiming) {
    state_ = State::kDeposed;
    Stop();
    Report("deposed: stopped, output held until the new copy runs");
  }
  if (current->running || HAVEN_MUTANT(kDestroyBeforeRunning)) {
    state_ = State::kDestroying;
    Report("the new copy runs: destroying this one");
    return actions_.DestroyGuests();
  }
  if (stuck_ != current) {
    stuck_ = current;
    stuck_since_ns_ = now_ns;
  }
  // A new owner lets its copy run only after `running = yes` was granted to it, so taking the term
  // away from exactly this value leaves one of the two, never both.
  if (now_ns >= stuck_since_ns_ + config_.takeback_ns) {
    Report("the new owner never ran: taking the term back");
    return Claim(*current, current->term + 1, now_ns);
  }
  AskAgain(now_ns);
}

void Recovery::Claim(const Register& current, Term term, int64_t now_ns) {
  Register desired;
  desired.term = term;
  desired.owner = config_.owner;
  desired.mode = config_.ending ? RegisterMode::kNone : RegisterMode::kSolo;
  desired.session = kNoSession;
  desired.running = true;
  register_.Change(config_.ending ? RegisterPurpose::kNone : RegisterPurpose::kSolo, current,
                   std::move(desired), now_ns);
}

void Recovery::OnGuestsDestroyed(const absl::Status& status, int64_t now_ns) {
  HAVEN_CHECK(state_ == State::kDestroying);
  if (!status.ok()) {
    Report("the deposed copy can not be destroyed yet: trying again");
    destroy_at_ns_ = now_ns + config_.poll_ns;
    return;
  }
  End(Outcome::kDestroyed, "the copy is destroyed");
}

void Recovery::OnTick(int64_t now_ns) {
  register_.OnTick(now_ns);
  if (now_ns >= destroy_at_ns_) {
    destroy_at_ns_ = kNever;
    actions_.DestroyGuests();
  }
  if (now_ns >= ask_at_ns_) {
    ask_at_ns_ = kNever;
    if (!register_.busy()) register_.Read(now_ns);
  }
  if (state_ == State::kClaiming && !paused_ && !config_.is_new &&
      now_ns >= since_ns_ + config_.patience_ns) {
    Stop();
    Report("the arbiter does not answer: guests paused; make it reachable");
  }
}

int64_t Recovery::NextWakeNs() const {
  if (state_ == State::kDone) return kNever;
  int64_t wake = std::min({register_.NextWakeNs(), ask_at_ns_, destroy_at_ns_});
  if (state_ == State::kClaiming && !paused_ && !config_.is_new) {
    wake = std::min(wake, since_ns_ + config_.patience_ns);
  }
  return wake;
}

}  // namespace haven
