// SPDX-License-Identifier: Apache-2.0
//
// Sessions and links in the primary's state machine (DESIGN.md sections 5 and 7).
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/primary/primary.h"

namespace haven {

// Looks for a backup, or for a new link to the one there is.
void Primary::TryLink(int64_t now_ns) {
  HAVEN_CHECK(link_state_ == LinkState::kDown);
  link_retry_at_ns_ = kNever;
  if (session_ == kNoSession) {
    if (!HAVEN_MUTANT(kForgetDeadline)) open_deadline_ns_ = now_ns + config_.session_deadline_ns;
    session_ = ids_.NextId();
    link_ = kNoLink;
    link_state_ = LinkState::kOpeningSession;
    actions_.OpenSession(session_, base_);
    return;
  }
  open_deadline_ns_ = now_ns + config_.open_deadline_ns;
  link_state_ = LinkState::kOpeningLink;
  actions_.OpenLink(session_, ++link_);
}

void Primary::OnSession(SessionId session, bool ok, bool base_accepted, int64_t now_ns) {
  if (link_state_ != LinkState::kOpeningSession || session != session_) return;
  if (!ok) {
    link_state_ = LinkState::kDown;
    return AbandonSession("no backup has accepted a session", now_ns);
  }
  last_sign_ns_ = now_ns;
  no_commit_since_ns_ = now_ns;
  next_epoch_ = 1;
  acked_ = kNoEpoch;
  if (base_accepted) {
    // Whatever the old replica may lack is still in the dirty set, which was never dropped.
    next_epoch_ = base_.epoch + 2;
    acked_ = base_.epoch;
  } else {
    actions_.MarkAllDirty();
  }
  sync_done_ = false;
  sync_rounds_ = 0;
  sync_left_ = 0;
  link_state_ = LinkState::kDown;
  SetRole(Role::kSyncing, base_accepted ? "copying what has changed" : "copying the whole guest");
  TryLink(now_ns);
}

void Primary::OnLinkUp(LinkNumber link, Epoch committed, int64_t now_ns) {
  if (link_state_ != LinkState::kOpeningLink || link != link_) return;
  link_state_ = LinkState::kUp;
  open_deadline_ns_ = kNever;
  last_sign_ns_ = now_ns;
  if (flight_.sent && !flight_.acked && committed == flight_.epoch) {
    Acked(now_ns);
  } else if (committed == acked_) {
    if (flight_.active && !flight_.acked) DropFlight();
  } else {
    return SessionBroken("the backup proves an epoch that this engine does not know", now_ns);
  }
  actions_.Report("link up");
  if (phase_ == Phase::kStopped) return ContinueStopped(now_ns);
  if (role_ == Role::kSyncing) return SyncRound(now_ns);
  if (phase_ == Phase::kRunning && !flight_.active) StartEpoch(now_ns);
}

void Primary::OnLinkDown(LinkNumber link, int64_t now_ns) {
  if (link != link_) return;
  if (link_state_ == LinkState::kUp || link_state_ == LinkState::kOpeningLink) {
    LinkLost("link lost", now_ns);
  }
}

void Primary::LinkLost(const char* cause, int64_t now_ns) {
  actions_.CloseLink();
  link_state_ = LinkState::kDown;
  open_deadline_ns_ = kNever;
  link_retry_at_ns_ = now_ns + config_.link_retry_ns;
  if (no_commit_since_ns_ == kNever) no_commit_since_ns_ = now_ns;
  if (HAVEN_MUTANT(kResendAll)) actions_.MarkAllDirty();
  actions_.Report(cause);
  // Nobody can be promoted yet, so nobody has to wait: but a checkpoint whose output is let go like
  // this can not be the first one of a protection (FlightDone looks at holding_).
  if (role_ == Role::kSyncing && holding_ && !opening_) RequestOpen();
}

void Primary::OnSessionLost(SessionId session, int64_t now_ns) {
  if (session != session_ || session_ == kNoSession || role_ == Role::kEnded) return;
  SessionBroken("the backup has ended the session", now_ns);
}

void Primary::OnDevicesChanged(int64_t now_ns) {
  const char* const cause = "a guest has other devices than its copy";
  if (role_ == Role::kEnded || session_ == kNoSession) return;
  if (!promotable_asked_) return AbandonSession(cause, now_ns);
  devices_changed_ = true;
  WantSolo(cause, now_ns);
}

void Primary::OnHandoverRefused(SessionId session, int64_t now_ns) {
  if (session != session_ || !handover_sent_) return;
  handover_ = false;
  handover_sent_ = false;
  handover_deadline_ns_ = kNever;
  actions_.Report("the backup refused the handover");
  if (phase_ == Phase::kStopped) ContinueStopped(now_ns);
}

// The session can not go on. Before `promotable` was asked for that just ends the attempt.
void Primary::SessionBroken(const char* cause, int64_t now_ns) {
  if (role_ == Role::kEnded || session_ == kNoSession) return;
  if (!promotable_asked_) return AbandonSession(cause, now_ns);
  if (link_state_ != LinkState::kDown) LinkLost(cause, now_ns);
  WantSolo(cause, now_ns);
}

// Forgets the session, but not what its replica has: everything unacknowledged is dirty again.
void Primary::EndSession(DropReason reason, const char* cause) {
  actions_.CloseLink();
  link_state_ = LinkState::kDown;
  open_deadline_ns_ = kNever;
  DropFlight();
  // An attempt that never got as far as a session leaves the older base in place.
  if (role_ != Role::kUnprotected) base_ = ReplicaBase{session_, acked_};
  actions_.DropSession(session_, want_none_ ? DropReason::kUnprotect : reason, cause);
  session_ = kNoSession;
  link_ = kNoLink;
  promotable_asked_ = false;
  devices_changed_ = false;
  no_commit_since_ns_ = kNever;
  epoch_due_ = false;
  next_epoch_ns_ = kNever;
  sync_at_ns_ = kNever;
  handover_ = false;
  handover_sent_ = false;
  handover_deadline_ns_ = kNever;
}

void Primary::AbandonSession(const char* cause, int64_t now_ns) {
  HAVEN_CHECK(!promotable_asked_);
  EndSession(DropReason::kInternal, cause);
  link_retry_at_ns_ = now_ns + config_.session_retry_ns;
  SetRole(Role::kUnprotected, cause);
  if (holding_ && !opening_) return RequestOpen();
  if (phase_ == Phase::kStopped && !opening_) ResumeGuests(Phase::kResuming, now_ns);
}

// Looks at the deadlines that say that the backup, or the way to it, is lost.
void Primary::CheckPeer(int64_t now_ns) {
  if (link_state_ == LinkState::kUp && flight_.active && !flight_.acked &&
      now_ns >= flight_.progress_ns + config_.progress_ns) {
    LinkLost("an epoch makes no progress on the wire", now_ns);
  }
  const bool silent = now_ns >= last_sign_ns_ + config_.detect_ns;
  const bool no_commit = now_ns >= RearmDeadlineNs();
  if (role_ == Role::kSyncing) {
    if (no_commit && link_state_ != LinkState::kUp) AbandonSession("backup lost", now_ns);
    return;
  }
  if (want_solo_ || want_none_) return;
  if (silent && link_state_ != LinkState::kUp) return WantSolo("the backup is silent", now_ns);
  if (no_commit) return WantSolo("no link carries an epoch", now_ns);
  if (stopped_since_ns_ != kNever && now_ns >= stopped_since_ns_ + config_.pause_budget_ns) {
    WantSolo("the guests have been stopped for longer than the pause budget", now_ns);
  }
}

}  // namespace haven
