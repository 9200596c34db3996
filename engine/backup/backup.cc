// SPDX-License-Identifier: Apache-2.0
//
// Sessions, links and commits of the backup's state machine; promotion is in backup_promotion.cc.
#include "engine/backup/backup.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

const char* Backup::StateName(State state) {
  switch (state) {
    case State::kWaiting:
      return "waiting";
    case State::kAdopting:
      return "adopting";
    case State::kSyncing:
      return "syncing";
    case State::kStandby:
      return "standby";
    case State::kClaiming:
      return "claiming";
    case State::kCuttingOff:
      return "cutting off";
    case State::kReading:
      return "reading";
    case State::kApplying:
      return "applying";
    case State::kPreparing:
      return "preparing";
    case State::kStarting:
      return "starting";
    case State::kRunning:
      return "running";
    case State::kHandingBack:
      return "handing back";
    case State::kStale:
      return "stale";
    case State::kAbandoning:
      return "abandoning";
    case State::kEnded:
      return "ended";
  }
  HAVEN_CHECK(false) << "no such state";
  return "";
}

Backup::Backup(const BackupConfig& config, BackupActions& actions, ArbiterPort& arbiter,
               IdSource& ids)
    : config_(config), actions_(actions), register_(arbiter, ids, config.arbiter_retry_ns) {}

void Backup::SetState(State state, const char* cause) {
  state_ = state;
  cause_ = cause;
  actions_.Report(cause);
}

void Backup::EndWith(BackupEnd end, const char* cause) {
  end_ = end;
  SetState(State::kEnded, cause);
}

// Until the old writer is cut off, what it commits is part of what will be promoted.
bool Backup::receiving() const {
  return state_ == State::kSyncing || state_ == State::kStandby || state_ == State::kAdopting ||
         state_ == State::kClaiming || state_ == State::kStale;
}

void Backup::OnHello(SessionId session, SessionId base_session, Epoch base_epoch, int64_t now_ns) {
  last_sign_ns_ = now_ns;
  if (state_ == State::kWaiting) return Adopt(session, false, kNoEpoch, now_ns);
  if (session != session_) LetGo(now_ns);
  const bool idle =
      state_ == State::kSyncing || state_ == State::kStandby || state_ == State::kStale;
  const bool sound = !poisoned_ && !copy_lost_;
  if (!idle || register_.change_pending() || !sound || applied_ != committed_) {
    return actions_.RefuseSession(session, "the replica here is busy: try again");
  }
  // The replica may only be overwritten in place while nobody may promote it, and it is the
  // register that says so, not the one who asks.
  wanted_session_ = session;
  wanted_epoch_ = base_session == session_ && committed_ >= base_epoch ? base_epoch : kNoEpoch;
  // Whoever asks, the old session goes on as it is until the register has spoken.
  committed_at_hello_ = committed_;
  SetState(State::kAdopting, "a new session wants the replica");
  register_.Read(now_ns);
}

void Backup::Adopt(SessionId session, bool base, Epoch base_epoch, int64_t now_ns) {
  if (session_ != kNoSession) actions_.CloseLink();
  session_ = session;
  link_ = kNoLink;
  link_up_ = false;
  // Pages that are newer than `base_epoch` are all in the primary's dirty set: counting from there
  // again is safe, and it is the number both sides know.
  committed_ = base ? base_epoch : kNoEpoch;
  applied_ = committed_;
  consistent_ = false;
  unwanted_ = false;
  was_named_ = false;
  let_go_ns_ = kNever;
  handover_ = false;
  poll_at_ns_ = now_ns + config_.forget_ns;
  stale_until_ns_ = kNever;
  last_sign_ns_ = now_ns;
  SetState(State::kSyncing, base ? "receiving what has changed" : "receiving the whole guest");
  actions_.AcceptSession(session, base);
}

void Backup::OnLinkRequest(SessionId session, LinkNumber link, int64_t now_ns) {
  if (session != session_ || session == kNoSession) return;
  last_sign_ns_ = now_ns;
  if (!receiving() || copy_lost_) {
    return actions_.SendDrop(session, "the session takes no more links");
  }
  if (link <= link_) return;  // A late repetition.
  link_ = link;
  link_up_ = false;
  if (state_ == State::kStale) {
    stale_until_ns_ = kNever;
    poll_at_ns_ = now_ns;
    SetState(consistent_ ? State::kStandby : State::kSyncing, "the primary is back");
  }
  actions_.OfferLink(session_, link_, committed_);
}

void Backup::OnLinkUp(LinkNumber link, int64_t now_ns) {
  if (link != link_ || !receiving()) return;
  link_up_ = true;
  last_sign_ns_ = now_ns;
  actions_.Report("link up");
}

void Backup::OnLinkDown(LinkNumber link) {
  if (link != link_ || !link_up_) return;
  link_up_ = false;
  actions_.CloseLink();
  actions_.Report("link lost");
}

void Backup::OnDrop(SessionId session, DropReason reason, int64_t now_ns) {
  if (session != session_ || !receiving()) return;
  LetGo(now_ns);
  // A promotion that is being asked for ends by the register's word only.
  if (register_.change_pending() || state_ == State::kAdopting) return;
  unwanted_ = reason == DropReason::kUnprotect;
  // Only a word of the primary; a replica that the register names is kept whatever the peer says.
  if (consistent_) {
    if (unwanted_) poll_at_ns_ = now_ns;
    return;
  }
  if (unwanted_) return Abandon("the protection has ended");
  Retire("the primary has ended the session", now_ns);
}

// The primary is done with the session, and what it has asked the register for is resolved.
void Backup::LetGo(int64_t now_ns) {
  let_go_ns_ = std::min(let_go_ns_, now_ns);
  if (copy_lost_) poll_at_ns_ = now_ns;
}

void Backup::OnVerified(Epoch epoch, EpochKind kind, int64_t now_ns) {
  HAVEN_CHECK((receiving() && link_up_) || HAVEN_MUTANT(kReadBeforeCutOff));
  // It would leave a replica that the register names without a state to run; the reader refuses it.
  HAVEN_CHECK(kind == EpochKind::kCheckpoint || !consistent_);
  last_sign_ns_ = now_ns;
  Commit(epoch, kind);
  actions_.Acknowledge(session_, link_, epoch);
  if (state_ == State::kSyncing && consistent_) {
    poll_at_ns_ = now_ns;
    SetState(State::kStandby, "first checkpoint committed");
  }
}

void Backup::Commit(Epoch epoch, EpochKind kind) {
  HAVEN_CHECK_GT(epoch, committed_);
  committed_ = epoch;
  if (kind == EpochKind::kCheckpoint) consistent_ = true;
  actions_.Apply(epoch);
}

void Backup::OnBadEpoch() {
  if (!link_up_) return;
  link_up_ = false;
  actions_.CloseLink();
  actions_.Report("an epoch that is not sound: link dropped");
}

void Backup::OnCopyLost(int64_t now_ns) {
  if (!receiving() || HAVEN_MUTANT(kKeepLostCopy) || copy_lost_) return OnBadEpoch();
  DropLink();
  copy_lost_ = true;
  actions_.SendDrop(session_, "the copy is lost");
  poll_at_ns_ = now_ns;
  SetState(state_, "the copy is lost: the session takes no more epochs");
}

void Backup::OnApplied(Epoch epoch, const absl::Status& status) {
  if (state_ == State::kEnded || state_ == State::kAbandoning) return;
  if (!status.ok()) {
    poisoned_ = true;
    consistent_ = false;
    if (state_ == State::kApplying) return FailPromotion("the last epoch can not be applied");
    if (!receiving() || register_.change_pending()) return;  // Seen when the promotion gets there.
    actions_.SendDrop(session_, "an epoch can not be applied");
    return Abandon("an epoch can not be applied");
  }
  applied_ = epoch;
  if (state_ == State::kApplying) FinishApply();
}

void Backup::DropLink() {
  if (link_up_) actions_.CloseLink();
  link_up_ = false;
}

// The replica is of no use as a guest, but may still be one as a base.
void Backup::Retire(const char* cause, int64_t now_ns) {
  DropLink();
  stale_until_ns_ = now_ns + config_.keep_ns;
  poll_at_ns_ = now_ns + config_.register_poll_ns;
  SetState(State::kStale, cause);
}

void Backup::Abandon(const char* cause) {
  DropLink();
  SetState(State::kAbandoning, cause);
  actions_.Abandon();
}

void Backup::OnAbandoned(const absl::Status& status, int64_t now_ns) {
  if (state_ != State::kAbandoning && state_ != State::kHandingBack) return;
  if (!status.ok()) {
    retry_at_ns_ = now_ns + config_.copy_retry_ns;
    return actions_.Report("a copy can not be destroyed yet: trying again");
  }
  if (state_ == State::kHandingBack) return HandBack(now_ns);
  EndWith(BackupEnd::kAbandoned, cause_);
}

void Backup::OnTick(int64_t now_ns) {
  if (state_ == State::kEnded) return;
  register_.OnTick(now_ns);
  if (now_ns >= retry_at_ns_) {
    retry_at_ns_ = kNever;
    if (state_ == State::kRunning) {
      actions_.Run();
    } else {
      actions_.Abandon();
    }
  }
  if (state_ == State::kStandby && now_ns >= ClaimNs()) {
    Claim("the primary is silent", now_ns);
  }
  if (now_ns >= poll_at_ns_) {
    const int64_t forget_at_ns = last_sign_ns_ + config_.forget_ns;
    const bool later = state_ == State::kSyncing && !copy_lost_ && now_ns < forget_at_ns;
    poll_at_ns_ = later ? forget_at_ns : kNever;
    if (poll_at_ns_ == kNever && !register_.busy() &&
        (state_ == State::kStandby || state_ == State::kStale || state_ == State::kSyncing)) {
      register_.Read(now_ns);
    }
  }
  if (state_ == State::kSyncing && now_ns >= last_sign_ns_ + config_.keep_ns) {
    Abandon("the primary has not been heard for too long");
  }
}

int64_t Backup::ClaimNs() const {
  const int64_t patience_ns = (HAVEN_MUTANT(kSlowToClaim) ? 10 : 1) * config_.detect_ns;
  return std::max(last_sign_ns_ + patience_ns, claim_not_before_ns_);
}

int64_t Backup::NextWakeNs() const {
  if (state_ == State::kEnded) return kNever;
  int64_t wake = std::min({register_.NextWakeNs(), retry_at_ns_, poll_at_ns_});
  if (state_ == State::kStandby) wake = std::min(wake, ClaimNs());
  if (state_ == State::kSyncing) wake = std::min(wake, last_sign_ns_ + config_.keep_ns);
  return wake;
}

}  // namespace haven
