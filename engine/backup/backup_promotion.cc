// SPDX-License-Identifier: Apache-2.0
//
// Promotion in the backup's state machine, in the order of DESIGN.md section 7: register, cut off
// the old writer, read the journal, finish the apply, running = yes, run.
#include <utility>

#include "engine/backup/backup.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

bool Backup::MayClaim() const {
  return (state_ == State::kStandby || state_ == State::kStale) && consistent_ && !poisoned_;
}

void Backup::OnHandover(SessionId session, Epoch epoch, int64_t now_ns) {
  if (session != session_) return;
  last_sign_ns_ = now_ns;
  if (state_ == State::kClaiming) return;  // Being asked for already.
  if (!MayClaim() || committed_ != epoch) return actions_.SendHandoverRefused(session);
  handover_ = true;
  Claim("the primary hands over", now_ns);
}

absl::Status Backup::Promote(int64_t now_ns) {
  if (!MayClaim()) {
    return absl::FailedPreconditionError(
        "this replica can not be promoted now; look at the status for the reason");
  }
  operator_asked_ = true;
  Claim("an operator asks for promotion", now_ns);
  return absl::OkStatus();
}

void Backup::Claim(const char* cause, int64_t now_ns) {
  SetState(State::kClaiming, cause);
  AskPromotion(now_ns);
}

// Asks with the value last seen if it names this session, so that a promotion costs one round trip
// to the arbiter; else reads first.
void Backup::AskPromotion(int64_t now_ns) {
  const std::optional<Register>& known = register_.known();
  if (register_.busy() && register_.purpose() != RegisterPurpose::kRead) return;
  if (HAVEN_MUTANT(kPromoteBeforeRegister)) {
    mine_ = known;
    SetState(State::kCuttingOff, "not asking");
    return actions_.CutOff();
  }
  const bool names_us =
      known.has_value() && known->mode == RegisterMode::kPromotable && known->session == session_;
  if (!names_us && !(HAVEN_MUTANT(kPromoteStale) && known.has_value())) {
    return register_.Read(now_ns);
  }
  before_ = known;
  Register desired;
  desired.term = known->term + 1;
  desired.owner = config_.owner;
  desired.mode = RegisterMode::kSolo;
  desired.session = kNoSession;
  desired.running = false;
  register_.Change(RegisterPurpose::kPromote, before_, std::move(desired), now_ns);
}

void Backup::OnArbiterAnswer(const RegisterAnswer& answer, int64_t now_ns) {
  const auto outcome = register_.OnAnswer(answer, now_ns);
  if (!outcome.has_value() || state_ == State::kEnded) return;
  switch (outcome->purpose) {
    case RegisterPurpose::kRead:
      return OnRegisterRead(outcome->current, now_ns);
    case RegisterPurpose::kPromote:
      return OnPromotionAnswer(*outcome, now_ns);
    case RegisterPurpose::kRunning:
      HAVEN_CHECK(state_ == State::kStarting);
      if (outcome->verdict != Verdict::kGranted && outcome->current == mine_) {
        // A mere no: the term is still this copy's, and nobody else may ever run.
        SetState(State::kPreparing, "the arbiter refused to let the copy run: asking again");
        return OnPrepared(absl::OkStatus(), now_ns);
      }
      if (outcome->verdict != Verdict::kGranted) {
        return Abandon("the term was taken back before the copy ran");
      }
      mine_ = outcome->current;
      SetState(State::kRunning, "starting the guests");
      return actions_.Run();
    case RegisterPurpose::kHandBack:
      if (outcome->verdict != Verdict::kGranted && outcome->current == mine_) {
        return HandBack(now_ns);
      }
      return EndWith(BackupEnd::kAbandoned, "the promotion failed; the term was handed back");
    default:
      HAVEN_CHECK(false) << "the backup never asks for this";
  }
}

void Backup::OnRegisterRead(const std::optional<Register>& current, int64_t now_ns) {
  const bool names_us =
      current.has_value() &&
      (HAVEN_MUTANT(kPromoteStale) ||
       (current->mode == RegisterMode::kPromotable && current->session == session_));
  was_named_ |= names_us;
  switch (state_) {
    case State::kAdopting:
      if (!current.has_value() || names_us || committed_ != committed_at_hello_ || poisoned_ ||
          copy_lost_) {
        actions_.RefuseSession(wanted_session_, "the old session is still in use");
        poll_at_ns_ = now_ns;
        return SetState(consistent_ ? State::kStandby : State::kSyncing, "kept the old session");
      }
      return Adopt(wanted_session_, wanted_epoch_ != kNoEpoch, wanted_epoch_, now_ns);
    case State::kClaiming:
      if (names_us && !StillWanted(now_ns)) {
        poll_at_ns_ = now_ns;
        return SetState(State::kStandby, "the primary is back");
      }
      if (names_us) return AskPromotion(now_ns);
      if (std::exchange(handover_, false)) actions_.SendHandoverRefused(session_);
      operator_asked_ = false;
      return Retire("the register does not let this replica run", now_ns);
    case State::kSyncing:
    case State::kStandby:
    case State::kStale:
      if (names_us && consistent_) {
        if (state_ == State::kStale) SetState(State::kStandby, "the register names this session");
        // The primary was told, and is about to have it changed.
        if (copy_lost_) poll_at_ns_ = now_ns + config_.register_poll_ns;
      } else if (copy_lost_ && current.has_value() && NeverPromotable()) {
        Abandon("the copy is lost");
      } else if (unwanted_ && current.has_value()) {
        Abandon("the protection has ended");
      } else if (Forgotten(current)) {
        Abandon("the primary is silent, and the register says that nobody is protected");
      } else if (state_ == State::kStale && current.has_value() &&
                 register_.asked_ns() >= stale_until_ns_) {
        // Not by the time alone: the session may have become promotable since the claim was denied.
        Abandon("nobody has used the replica for too long");
      } else {
        poll_at_ns_ = now_ns + config_.register_poll_ns;
      }
      return;
    default:
      return;
  }
}

void Backup::OnPromotionAnswer(const RegisterClient::Outcome& outcome, int64_t now_ns) {
  HAVEN_CHECK(state_ == State::kClaiming);
  if (outcome.verdict == Verdict::kGranted) {
    mine_ = outcome.current;
    if (HAVEN_MUTANT(kReadBeforeCutOff)) return OnCutOffProven();
    SetState(State::kCuttingOff, "granted: cutting off the old writer");
    return actions_.CutOff();
  }
  if (poisoned_) {
    actions_.SendDrop(session_, "an epoch can not be applied");
    return Abandon("an epoch can not be applied");
  }
  if (outcome.current == before_) {
    // Nothing has changed: somebody says no, who is not to be asked again at once.
    if (std::exchange(handover_, false)) actions_.SendHandoverRefused(session_);
    operator_asked_ = false;
    claim_not_before_ns_ = now_ns + config_.register_poll_ns;
    if (copy_lost_) poll_at_ns_ = claim_not_before_ns_;
    return SetState(State::kStandby, "the arbiter refuses the promotion");
  }
  // Something has changed since the value was read. If it still names this session, and the reason
  // to ask is still there, it is asked again with the new value.
  OnRegisterRead(outcome.current, now_ns);
}

// Whether there is still a reason for the promotion that is being asked for.
bool Backup::StillWanted(int64_t now_ns) const {
  return handover_ || operator_asked_ || now_ns >= last_sign_ns_ + config_.detect_ns;
}

// The word that ended the protection may have been lost with the primary's engine. An answer to a
// question from before the silence says nothing: it may have waited here while this process stood
// still, and `promotable` may have been granted since.
bool Backup::Forgotten(const std::optional<Register>& current) const {
  return current.has_value() && current->mode == RegisterMode::kNone &&
         register_.asked_ns() >= last_sign_ns_ + config_.forget_ns;
}

// Whether a register that did not name this session when it was read last will never do so. It is
// named once at most. Until it was, the primary's request for that may still be under way, from the
// first checkpoint until the primary is done with the session, or is long dead.
bool Backup::NeverPromotable() const {
  const int64_t asked_ns = register_.asked_ns();
  return HAVEN_MUTANT(kGiveUpAtOnce) || !consistent_ || was_named_ || asked_ns >= let_go_ns_ ||
         asked_ns >= last_sign_ns_ + config_.forget_ns;
}

void Backup::OnCutOff(const absl::Status& status) {
  HAVEN_CHECK(state_ == State::kCuttingOff);
  link_up_ = false;
  if (!status.ok()) return FailPromotion("the old writer can not be cut off");
  OnCutOffProven();
}

void Backup::OnCutOffProven() {
  SetState(State::kReading, "reading the journal");
  actions_.ReadFinal();
}

void Backup::OnFinalRead(Epoch epoch, EpochKind kind) {
  HAVEN_CHECK(state_ == State::kReading);
  if (epoch != kNoEpoch && kind == EpochKind::kCheckpoint) Commit(epoch, kind);
  SetState(State::kApplying, "applying the last epoch");
  FinishApply();
}

void Backup::FinishApply() {
  if (poisoned_) return FailPromotion("an epoch could not be applied");
  if (applied_ != committed_) return;
  SetState(State::kPreparing, "preparing the guests");
  actions_.Prepare();
}

void Backup::OnPrepared(const absl::Status& status, int64_t now_ns) {
  HAVEN_CHECK(state_ == State::kPreparing);
  if (!status.ok()) return FailPromotion("a copy can not be prepared");
  if (HAVEN_MUTANT(kPromoteBeforeRegister)) {
    SetState(State::kRunning, "not asking");
    return actions_.Run();
  }
  SetState(State::kStarting, "telling the register");
  Register desired = *mine_;
  desired.running = true;
  register_.Change(RegisterPurpose::kRunning, mine_, std::move(desired), now_ns);
}

// From `running = yes` on the old copy may be destroyed at any moment: there is no way back, only
// on.
void Backup::OnRunning(const absl::Status& status, int64_t now_ns) {
  HAVEN_CHECK(state_ == State::kRunning);
  if (!status.ok()) {
    retry_at_ns_ = now_ns + config_.copy_retry_ns;
    return actions_.Report("a copy does not start: trying again");
  }
  actions_.SendPromoted(session_, mine_->term);
  EndWith(BackupEnd::kPromoted, "promoted");
}

// The copies go first, then the term: whoever gets it back must be alone.
void Backup::FailPromotion(const char* cause) {
  SetState(State::kHandingBack, cause);
  actions_.Abandon();
}

void Backup::HandBack(int64_t now_ns) {
  Register desired = *mine_;
  desired.term = mine_->term + 1;
  desired.owner = before_->owner;
  desired.running = true;
  register_.Change(RegisterPurpose::kHandBack, mine_, std::move(desired), now_ns);
}

}  // namespace haven
