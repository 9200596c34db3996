// SPDX-License-Identifier: Apache-2.0
//
// The register in the primary's state machine: who may run with open output (DESIGN.md section 7).
#include <utility>

#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/primary/primary.h"

namespace haven {

// Asks for what is wanted next. Requests are strictly one after the other: while one is unresolved
// its effect is assumed in the worse way for this side, which is `promotable`: output is held.
void Primary::PursueRegister(int64_t now_ns) {
  if (role_ == Role::kEnded || register_.change_pending() || now_ns < register_retry_at_ns_) return;
  if (role_ == Role::kStarting) {
    return AskFor(RegisterPurpose::kCreate, RegisterMode::kNone, kNoSession, now_ns);
  }
  const bool wants = want_none_ || want_solo_ || role_ == Role::kArming;
  if (!wants) return;
  if (!register_.known().has_value()) {
    register_retry_at_ns_ = now_ns + config_.arbiter_retry_ns;
    return register_.Read(now_ns);
  }
  if (want_none_) return AskFor(RegisterPurpose::kNone, RegisterMode::kNone, kNoSession, now_ns);
  if (want_solo_) return AskFor(RegisterPurpose::kSolo, RegisterMode::kSolo, kNoSession, now_ns);
  promotable_asked_ = true;
  AskFor(RegisterPurpose::kPromotable, RegisterMode::kPromotable, session_, now_ns);
}

void Primary::AskFor(RegisterPurpose purpose, RegisterMode mode, SessionId session,
                     int64_t now_ns) {
  const std::optional<Register> expected = register_.known();
  Register desired;
  desired.term = expected.has_value() ? expected->term : 1;
  desired.owner = config_.owner;
  desired.mode = mode;
  desired.session = session;
  desired.running = true;
  register_.Change(purpose, expected, std::move(desired), now_ns);
}

void Primary::WantSolo(const char* cause, int64_t now_ns) {
  if (want_solo_ || role_ == Role::kEnded) return;
  want_solo_ = true;
  solo_since_ns_ = now_ns;
  cause_ = cause;
  actions_.Report(cause);
  PursueRegister(now_ns);
  if (HAVEN_MUTANT(kOpenBeforeSolo)) RequestOpen();
}

void Primary::WantNone(PrimaryEnd end, const char* cause, int64_t now_ns) {
  if (want_none_ || role_ == Role::kEnded) return;
  want_none_ = true;
  none_end_ = end;
  if (solo_since_ns_ == kNever) solo_since_ns_ = now_ns;
  cause_ = cause;
  actions_.Report(cause);
  PursueRegister(now_ns);
  if (HAVEN_MUTANT(kEndBeforeNone)) RequestOpen();
}

void Primary::OnArbiterAnswer(const RegisterAnswer& answer, int64_t now_ns) {
  if (HAVEN_MUTANT(kUnknownIsDenied) && answer.verdict == Verdict::kUnknown &&
      register_.purpose() == RegisterPurpose::kPromotable && role_ == Role::kArming) {
    promotable_asked_ = false;
    return AbandonSession("taken for denied", now_ns);
  }
  const auto outcome = register_.OnAnswer(answer, now_ns);
  if (!outcome.has_value() || role_ == Role::kEnded) return;
  const bool mine = outcome->current.has_value() && outcome->current->owner == config_.owner;
  if (outcome->purpose == RegisterPurpose::kRead) {
    if (outcome->current.has_value() && !mine) return OnDenied(outcome->current, now_ns);
    return PursueRegister(now_ns);
  }
  if (outcome->verdict == Verdict::kGranted) return OnGranted(outcome->purpose, now_ns);
  OnDenied(outcome->current, now_ns);
}

void Primary::OnGranted(RegisterPurpose purpose, int64_t now_ns) {
  switch (purpose) {
    case RegisterPurpose::kCreate:
      SetRole(Role::kUnprotected, "looking for a backup");
      return TryLink(now_ns);
    case RegisterPurpose::kPromotable:
      SetRole(Role::kProtected, "protected");
      return PursueRegister(now_ns);
    case RegisterPurpose::kSolo:
      return GoOpen("running alone", now_ns);
    case RegisterPurpose::kNone:
      GoOpen("not protected any more", now_ns);
      // Nothing that is still under way is answered after this: no guest waits for it.
      if (phase_ != Phase::kRunning) ResumeGuests(Phase::kResuming, now_ns);
      return Finish(none_end_, "not protected any more");
    default:
      HAVEN_CHECK(false) << "the primary never asks for this";
  }
}

// The register holds something else. Whoever owns it now is its word; if this copy still does, what
// is wanted is asked for again with the value seen: only a grant counts, never a value read, since
// an older request could still be under way when it was read.
void Primary::OnDenied(const std::optional<Register>& current, int64_t now_ns) {
  if (current.has_value() && current->owner != config_.owner) {
    if (role_ == Role::kStarting) {
      return Finish(PrimaryEnd::kRefused, "the group belongs to another copy");
    }
    return Finish(PrimaryEnd::kDeposed, "another copy owns the group");
  }
  if (!current.has_value())
    actions_.Report("the register is gone: restore it or unprotect by hand");
  register_retry_at_ns_ = now_ns + config_.arbiter_retry_ns;
}

// The register says that nobody can take over: output may go, and the session is over.
void Primary::GoOpen(const char* cause, int64_t now_ns) {
  if (session_ != kNoSession) EndSession(DropReason::kSolo, cause);
  want_solo_ = false;
  solo_since_ns_ = kNever;
  pause_reason_ = PauseReason::kNone;
  link_retry_at_ns_ = want_none_ ? kNever : now_ns + config_.session_retry_ns;
  SetRole(Role::kUnprotected, cause);
  if (phase_ == Phase::kStopping) ResumeGuests(Phase::kTakingBack, now_ns);
  if (holding_ || opening_) return RequestOpen();
  if (phase_ == Phase::kStopped) ResumeGuests(Phase::kResuming, now_ns);
}

void Primary::RequestOpen() {
  holding_ = false;
  opening_ = true;
  reopen_at_ns_ = kNever;
  actions_.OpenOutput();
}

void Primary::OnOutput(OutputOp op, const absl::Status& status, int64_t now_ns) {
  if (role_ == Role::kEnded) return;  // The guard has the output from now on.
  switch (op) {
    case OutputOp::kHold:
      if (phase_ != Phase::kHolding) return;
      SetPhase(Phase::kStopped, now_ns);
      if (status.ok() || session_ == kNoSession) return ContinueStopped(now_ns);
      return AbandonSession("the output can not be held", now_ns);
    case OutputOp::kBarrier:
      if (phase_ != Phase::kBarrier) return;
      SetPhase(Phase::kStopped, now_ns);
      if (status.ok()) {
        mark_outstanding_ = true;
      } else {
        output_broken_ = true;
      }
      return ContinueStopped(now_ns);
    case OutputOp::kRelease:
      if (!flight_.active || !flight_.acked) return;
      mark_outstanding_ = false;
      if (!status.ok()) OnOutputBroken(now_ns);
      return FlightDone(now_ns);
    case OutputOp::kRebuild:
      if (phase_ != Phase::kRebuilding) return;
      SetPhase(Phase::kStopped, now_ns);
      if (!status.ok()) return WantSolo("the output buffer can not be rebuilt", now_ns);
      output_broken_ = false;
      mark_outstanding_ = false;
      return ContinueStopped(now_ns);
    case OutputOp::kOpen:
      if (!opening_) return;
      if (!status.ok()) {
        reopen_at_ns_ = now_ns + config_.link_retry_ns;
        if (phase_ == Phase::kStopped) Pause(PauseReason::kOutputOpening, now_ns);
        return;
      }
      opening_ = false;
      mark_outstanding_ = false;
      output_broken_ = false;
      if (phase_ == Phase::kStopped && !HAVEN_MUTANT(kForgetResume)) {
        return ResumeGuests(Phase::kResuming, now_ns);
      }
      return SyncRound(now_ns);
  }
}

void Primary::OnOutputBroken(int64_t now_ns) {
  if (!holding_ || output_broken_) return;
  output_broken_ = true;
  actions_.Report("the output buffer is not intact: stopping the guests to commit and rebuild");
  if (phase_ == Phase::kRunning) StopGuests(PauseReason::kOutputRebuild, now_ns);
}

void Primary::Finish(PrimaryEnd end, const char* cause) {
  if (session_ != kNoSession) {
    actions_.CloseLink();
    link_state_ = LinkState::kDown;
  }
  end_ = end;
  SetRole(Role::kEnded, cause);
}

}  // namespace haven
