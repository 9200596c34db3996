// SPDX-License-Identifier: Apache-2.0
//
// The epoch cycle of the primary's state machine (DESIGN.md section 4).
#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/primary/primary.h"

namespace haven {

namespace {

// A checkpoint that failed this often in a row is not tried again without the register's word.
constexpr uint32_t kCaptureTries = 3;

// Doublings of the time between sessions whose first checkpoint can not be taken.
constexpr uint32_t kFutileSyncsMax = 6;

bool Any(const std::vector<bool>& flags) {
  return std::find(flags.begin(), flags.end(), true) != flags.end();
}

}  // namespace

bool Primary::AnyEnded() const { return Any(ended_); }

void Primary::SetPhase(Phase phase, int64_t now_ns) {
  phase_ = phase;
  phase_since_ns_ = now_ns;
}

// An epoch is due. It waits for the release of the one before (the buffer remembers one finished
// epoch) and for a link.
void Primary::StartEpoch(int64_t now_ns) {
  next_epoch_ns_ = kNever;
  if (flight_.active || link_state_ != LinkState::kUp || opening_ || AnyEnded()) {
    epoch_due_ = true;
    return;
  }
  StopGuests(PauseReason::kNone, now_ns);
}

void Primary::StopGuests(PauseReason stay, int64_t now_ns) {
  HAVEN_CHECK(phase_ == Phase::kRunning);
  stay_ = stay;
  epoch_due_ = false;
  next_epoch_ns_ = now_ns + config_.interval_ns;
  SetPhase(Phase::kStopping, now_ns);
  for (uint32_t domain = 0; domain < config_.domains; ++domain) {
    stopped_[domain] = ended_[domain];
    if (!ended_[domain]) actions_.RequestSuspend(domain);
  }
  if (HAVEN_MUTANT(kBarrierBeforeStopped)) actions_.Barrier();
  if (AllStopped()) AllGuestsStopped(now_ns);
}

void Primary::OnGuestSuspended(uint32_t domain, int64_t now_ns) {
  HAVEN_CHECK_LT(domain, config_.domains);
  if (phase_ != Phase::kStopping) return;
  stopped_[domain] = true;
  if (AllStopped()) AllGuestsStopped(now_ns);
}

bool Primary::AllStopped() const {
  return std::find(stopped_.begin(), stopped_.end(), false) == stopped_.end();
}

void Primary::AllGuestsStopped(int64_t now_ns) {
  missed_suspends_ = 0;
  SetPhase(Phase::kStopped, now_ns);
  ContinueStopped(now_ns);
}

// All guests are stopped: takes the epoch if it can be taken, else says what they wait for. Called
// again whenever that may have changed.
void Primary::ContinueStopped(int64_t now_ns) {
  HAVEN_CHECK(phase_ == Phase::kStopped);
  if (role_ == Role::kEnded || opening_) return;  // Finish() and OnOutput() see to these.
  if (role_ == Role::kUnprotected) return ResumeGuests(Phase::kResuming, now_ns);
  if (AnyEnded()) return Pause(PauseReason::kGuestEnded, now_ns);
  if (pause_reason_ == PauseReason::kTooLarge || pause_reason_ == PauseReason::kCaptureFailed) {
    return;
  }
  if (handover_sent_) return Pause(PauseReason::kHandover, now_ns);
  if (flight_.active || link_state_ != LinkState::kUp) {
    if (stay_ != PauseReason::kNone) return Pause(stay_, now_ns);
    epoch_due_ = true;
    return ResumeGuests(Phase::kResuming, now_ns);
  }
  if (!holding_) {
    holding_ = true;
    SetPhase(Phase::kHolding, now_ns);
    return actions_.HoldOutput();
  }
  if (output_broken_ && HAVEN_MUTANT(kRebuildBeforeCommit)) {
    SetPhase(Phase::kRebuilding, now_ns);
    return actions_.RebuildOutput();
  }
  // After an aborted epoch its mark stands: a second one would lose the count of the first, and
  // what came between is only released one epoch later than it could be.
  if (mark_outstanding_ || output_broken_) return CaptureCheckpoint(now_ns);
  SetPhase(Phase::kBarrier, now_ns);
  actions_.Barrier();
}

void Primary::CaptureCheckpoint(int64_t now_ns) {
  SetPhase(Phase::kCapturing, now_ns);
  actions_.Capture(EpochKind::kCheckpoint);
}

void Primary::OnCaptured(const CaptureReport& report, int64_t now_ns) {
  if (role_ == Role::kEnded) return;
  if (sync_capturing_) return OnSyncCaptured(report, now_ns);
  HAVEN_CHECK(phase_ == Phase::kCapturing);
  SetPhase(Phase::kStopped, now_ns);
  if (role_ != Role::kSyncing && role_ != Role::kArming && role_ != Role::kProtected) {
    // The session ended while the pages were being copied.
    if (report.result == CaptureReport::Result::kOk) actions_.RestoreDirty();
    return ContinueStopped(now_ns);
  }
  if (report.result != CaptureReport::Result::kOk) return OnCheckpointFailed(report, now_ns);
  failed_captures_ = 0;
  const bool stay_stopped = handover_ || output_broken_;
  if (stay_stopped) {
    Pause(handover_ ? PauseReason::kHandover : PauseReason::kOutputRebuild, now_ns);
  } else {
    ResumeGuests(Phase::kResuming, now_ns);
  }
  StartFlight(EpochKind::kCheckpoint, now_ns);
  flight_.final_state = stay_stopped;
}

void Primary::OnCheckpointFailed(const CaptureReport& report, int64_t now_ns) {
  const bool too_large = report.result == CaptureReport::Result::kTooLarge;
  const bool guest_runs = report.result == CaptureReport::Result::kGuestRuns;
  const char* const cause = too_large    ? "the dirty pages do not fit staging and journal"
                            : guest_runs ? "somebody lets a guest go on in its checkpoint"
                                         : "the guest's dirty log or state can not be read";
  if (!promotable_asked_) {
    // Nobody can be promoted yet: the guests go on with open output and the copy goes on live.
    actions_.Report(cause);
    sync_done_ = false;
    sync_rounds_ = 0;
    sync_left_ = 0;
    if (++failed_captures_ < kCaptureTries) return RequestOpen();
    failed_captures_ = 0;
    return AbandonFutile(cause, now_ns);
  }
  // Every page may be dirty now. If that does not fit, only the register helps; nothing partial is
  // ever applied.
  if (!too_large && ++failed_captures_ < kCaptureTries) {
    if (!guest_runs) return CaptureCheckpoint(now_ns);
    // With the others: they are stopped anew.
    actions_.Report(cause);
    epoch_due_ = true;
    return ResumeGuests(Phase::kResuming, now_ns);
  }
  failed_captures_ = 0;
  Pause(too_large ? PauseReason::kTooLarge : PauseReason::kCaptureFailed, now_ns);
  WantSolo(cause, now_ns);
}

// Copying the whole guest again and again helps nobody: less and less often.
void Primary::AbandonFutile(const char* cause, int64_t now_ns) {
  AbandonSession(cause, now_ns);
  futile_syncs_ = std::min(futile_syncs_ + 1, kFutileSyncsMax);
  link_retry_at_ns_ = now_ns + (config_.session_retry_ns << futile_syncs_);
}

void Primary::ResumeGuests(Phase phase, int64_t now_ns) {
  SetPhase(phase, now_ns);
  pause_reason_ = PauseReason::kNone;
  stay_ = PauseReason::kNone;
  stopped_since_ns_ = kNever;
  flight_.final_state = false;
  for (uint32_t domain = 0; domain < config_.domains; ++domain) {
    resuming_[domain] = !ended_[domain];
    if (!ended_[domain]) actions_.ResumeGuest(domain);
  }
  if (!Any(resuming_)) SetPhase(Phase::kRunning, now_ns);
}

void Primary::OnGuestRunning(uint32_t domain, int64_t now_ns) {
  HAVEN_CHECK_LT(domain, config_.domains);
  if (phase_ != Phase::kResuming && phase_ != Phase::kTakingBack) return;
  resuming_[domain] = false;
  if (Any(resuming_)) return;
  SetPhase(Phase::kRunning, now_ns);
  if (role_ == Role::kEnded) return;
  if (output_broken_ && holding_) return StopGuests(PauseReason::kOutputRebuild, now_ns);
  if (handover_) return StopGuests(PauseReason::kHandover, now_ns);
  if (role_ == Role::kSyncing) return SyncRound(now_ns);
  if (epoch_due_) StartEpoch(now_ns);
}

// A guest did not stop in time: the request is taken back in all of them, they go on with the
// output held.
void Primary::GiveUpStopping(int64_t now_ns) {
  ++missed_suspends_;
  handover_ = false;
  handover_deadline_ns_ = kNever;
  ResumeGuests(Phase::kTakingBack, now_ns);
  if (missed_suspends_ <= config_.suspend_retries)
    return actions_.Report("a guest missed the suspend deadline");
  missed_suspends_ = 0;
  SessionBroken("a guest does not suspend", now_ns);
}

void Primary::OnDirtyMark(int64_t now_ns) {
  if (phase_ != Phase::kRunning || opening_ || AnyEnded()) return;
  if (role_ != Role::kArming && role_ != Role::kProtected) return;
  StopGuests(PauseReason::kAwaitAck, now_ns);
}

void Primary::StartFlight(EpochKind kind, int64_t now_ns) {
  flight_ = Flight{.active = true,
                   .sent = false,
                   .acked = false,
                   .epoch = next_epoch_++,
                   .kind = kind,
                   .final_state = false,
                   .progress_ns = now_ns};
  if (no_commit_since_ns_ == kNever) no_commit_since_ns_ = now_ns;
  if (link_state_ != LinkState::kUp) return;  // Decided when a link is up again.
  flight_.sent = true;
  actions_.Send({.session = session_,
                 .link = link_,
                 .epoch = flight_.epoch,
                 .base_epoch = acked_,
                 .kind = kind});
  if (HAVEN_MUTANT(kReleaseBeforeCommit) && mark_outstanding_) actions_.ReleaseOutput();
}

void Primary::OnSendProgress(int64_t now_ns) { flight_.progress_ns = now_ns; }

void Primary::OnAck(SessionId session, LinkNumber link, Epoch epoch, int64_t now_ns) {
  if (session != session_ || link != link_ || link_state_ != LinkState::kUp) return;
  if (!flight_.active || flight_.acked || epoch != flight_.epoch) return;
  Acked(now_ns);
}

// The backup has the epoch in flight for good.
void Primary::Acked(int64_t now_ns) {
  flight_.acked = true;
  acked_ = flight_.epoch;
  last_ack_ns_ = now_ns;
  last_sign_ns_ = now_ns;
  no_commit_since_ns_ = kNever;
  actions_.CommitDirty();
  // A wish for solo that was never put to the arbiter has lost its reason.
  if (want_solo_ && !devices_changed_ && register_.purpose() != RegisterPurpose::kSolo &&
      pause_reason_ != PauseReason::kTooLarge && pause_reason_ != PauseReason::kCaptureFailed) {
    want_solo_ = false;
    solo_since_ns_ = kNever;
  }
  if (flight_.kind == EpochKind::kCheckpoint && mark_outstanding_ && !output_broken_ && holding_) {
    return actions_.ReleaseOutput();
  }
  FlightDone(now_ns);
}

void Primary::FlightDone(int64_t now_ns) {
  const Flight done = flight_;
  flight_ = Flight{};
  if (role_ == Role::kSyncing && done.kind == EpochKind::kCheckpoint && holding_) {
    futile_syncs_ = 0;
    // From here on the backup has a guest that could run, and no output is ahead of it.
    SetRole(Role::kArming, "first checkpoint committed");
    PursueRegister(now_ns);
  }
  if (done.final_state && phase_ == Phase::kStopped) {
    // Only now: what the buffer still holds may leave while it is rebuilt, and the backup is to go
    // on with exactly this state.
    if (output_broken_ && pause_reason_ == PauseReason::kOutputRebuild) {
      SetPhase(Phase::kRebuilding, now_ns);
      return actions_.RebuildOutput();
    }
    if (handover_) {
      handover_sent_ = true;
      actions_.SendHandover(session_, done.epoch);
    }
  }
  if (phase_ == Phase::kStopped) return ContinueStopped(now_ns);
  if (role_ == Role::kSyncing) return SyncRound(now_ns);
  if (phase_ == Phase::kRunning && epoch_due_) StartEpoch(now_ns);
}

// What was captured and not acknowledged is dirty again.
void Primary::DropFlight() {
  if (!flight_.active) return;
  if (!flight_.acked && HAVEN_MUTANT(kDropDirtyOnFailure)) {
    actions_.CommitDirty();
  } else if (!flight_.acked) {
    actions_.RestoreDirty();
  }
  if (!flight_.acked && HAVEN_MUTANT(kReuseEpochNumber)) --next_epoch_;
  flight_ = Flight{};
}

void Primary::Pause(PauseReason reason, int64_t now_ns) {
  if (stopped_since_ns_ == kNever) stopped_since_ns_ = now_ns;
  if (pause_reason_ == reason) return;
  pause_reason_ = reason;
  actions_.Report("guests stay stopped");
}

void Primary::SetInterval(int64_t interval_ns, int64_t now_ns) {
  config_.interval_ns = interval_ns;
  if (next_epoch_ns_ != kNever) next_epoch_ns_ = std::min(next_epoch_ns_, now_ns + interval_ns);
}

// One round of live pre-copy, or, when that is done, the first checkpoint.
void Primary::SyncRound(int64_t now_ns) {
  sync_at_ns_ = kNever;
  if (role_ != Role::kSyncing || link_state_ != LinkState::kUp || flight_.active || opening_)
    return;
  if (phase_ != Phase::kRunning || sync_capturing_ || AnyEnded()) return;
  if (sync_done_) return StopGuests(PauseReason::kNone, now_ns);
  sync_capturing_ = true;
  actions_.Capture(EpochKind::kSync);
}

void Primary::OnSyncCaptured(const CaptureReport& report, int64_t now_ns) {
  sync_capturing_ = false;
  if (role_ != Role::kSyncing || report.result != CaptureReport::Result::kOk) {
    if (report.result == CaptureReport::Result::kOk && report.pages > 0) actions_.RestoreDirty();
    return OnSyncFailed(now_ns);
  }
  failed_syncs_ = 0;
  // A round is whole when as much was sent as was dirty at its start, whatever the guest has
  // dirtied meanwhile: so the copying ends, also if the guest is faster.
  if (sync_left_ == 0) sync_round_ = sync_left_ = report.pages + report.pending_pages;
  sync_left_ -= std::min(sync_left_, report.pages);
  if (sync_left_ == 0) {
    ++sync_rounds_;
    sync_done_ =
        sync_round_ <= config_.sync_threshold_pages || sync_rounds_ >= config_.sync_rounds_max;
  }
  if (report.pages == 0) return SyncRound(now_ns);
  StartFlight(EpochKind::kSync, now_ns);
}

void Primary::OnSyncFailed(int64_t now_ns) {
  sync_at_ns_ = now_ns + std::min(config_.interval_ns, config_.session_retry_ns);
  if (role_ != Role::kSyncing) return;  // The session ended while the pages were being copied.
  constexpr char kCause[] = "the guest's dirty log can not be read";
  actions_.Report(kCause);
  if (++failed_syncs_ < kCaptureTries) return;
  failed_syncs_ = 0;
  AbandonFutile(kCause, now_ns);
}

}  // namespace haven
