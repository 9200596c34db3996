// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/primary.h"

#include <algorithm>

#include "engine/base/check.h"

namespace haven {

const char* ProtectionStateName(ProtectionState state) {
  switch (state) {
    case ProtectionState::kUnprotected:
      return "unprotected";
    case ProtectionState::kSyncing:
      return "syncing";
    case ProtectionState::kProtected:
      return "protected";
    case ProtectionState::kDegraded:
      return "degraded";
    case ProtectionState::kPaused:
      return "paused";
    case ProtectionState::kPromoting:
      return "promoting";
    case ProtectionState::kPromoted:
      return "promoted";
    case ProtectionState::kDeposed:
      return "deposed";
  }
  HAVEN_CHECK(false) << "no such state";
  return "";
}

Primary::Primary(const PrimaryConfig& config, PrimaryActions& actions, ArbiterPort& arbiter,
                 IdSource& ids)
    : config_(config),
      actions_(actions),
      ids_(ids),
      register_(arbiter, ids, config.arbiter_retry_ns),
      stopped_(config.domains, false),
      resuming_(config.domains, false),
      ended_(config.domains, false) {
  HAVEN_CHECK_GT(config.domains, 0u);
}

void Primary::Start(const std::optional<Register>& current, int64_t now_ns) {
  HAVEN_CHECK(role_ == Role::kStarting && !register_.busy());
  if (!current.has_value()) return PursueRegister(now_ns);
  HAVEN_CHECK(current->owner == config_.owner && current->mode != RegisterMode::kPromotable);
  register_.Adopt(*current);
  SetRole(Role::kUnprotected, "looking for a backup");
  TryLink(now_ns);
}

void Primary::SetRole(Role role, const char* cause) {
  role_ = role;
  cause_ = cause;
  actions_.Report(cause);
}

void Primary::OnGuestEnded(uint32_t domain, int64_t now_ns) {
  HAVEN_CHECK_LT(domain, config_.domains);
  if (ended_[domain] || role_ == Role::kEnded) return;
  ended_[domain] = true;
  resuming_[domain] = false;
  if (!promotable_asked_ && session_ != kNoSession) AbandonSession("a guest has ended", now_ns);
  WantNone(PrimaryEnd::kGuestEnded, "a guest of the group has ended by itself", now_ns);
  if (role_ == Role::kEnded) return;
  if (phase_ == Phase::kStopping) return ResumeGuests(Phase::kTakingBack, now_ns);
  if ((phase_ == Phase::kResuming || phase_ == Phase::kTakingBack) &&
      std::find(resuming_.begin(), resuming_.end(), true) == resuming_.end()) {
    SetPhase(Phase::kRunning, now_ns);
  }
}

void Primary::OnPeerPromoted(int64_t now_ns) {
  if (role_ == Role::kEnded || register_.busy()) return;
  register_.Read(now_ns);
}

void Primary::Unprotect(int64_t now_ns) {
  if (role_ == Role::kEnded) return;
  if (!promotable_asked_ && session_ != kNoSession) AbandonSession("unprotect asked for", now_ns);
  WantNone(PrimaryEnd::kUnprotected, "unprotect asked for", now_ns);
}

absl::Status Primary::Handover(int64_t now_ns) {
  if (state(now_ns) != ProtectionState::kProtected || handover_) {
    return absl::FailedPreconditionError(
        "a handover needs a guest that is protected; look at the status for what is missing");
  }
  handover_ = true;
  handover_deadline_ns_ = now_ns + config_.handover_ns;
  if (phase_ == Phase::kRunning) StopGuests(PauseReason::kHandover, now_ns);
  return absl::OkStatus();
}

void Primary::OnTick(int64_t now_ns) {
  if (role_ == Role::kEnded) return;
  register_.OnTick(now_ns);
  if (phase_ == Phase::kStopping && now_ns >= phase_since_ns_ + config_.suspend_deadline_ns) {
    GiveUpStopping(now_ns);
  }
  if ((phase_ == Phase::kResuming || phase_ == Phase::kTakingBack) &&
      now_ns >= phase_since_ns_ + config_.resume_deadline_ns) {
    SetPhase(phase_, now_ns);
    for (uint32_t domain = 0; domain < config_.domains; ++domain) {
      if (resuming_[domain]) actions_.ResumeGuest(domain);
    }
  }
  if (now_ns >= reopen_at_ns_) RequestOpen();
  if (now_ns >= open_deadline_ns_) {
    if (link_state_ == LinkState::kOpeningSession) {
      link_state_ = LinkState::kDown;
      AbandonSession("the backup did not answer", now_ns);
    } else {
      LinkLost("the link was not opened in time", now_ns);
    }
  }
  if (now_ns >= LinkRetryNs()) TryLink(now_ns);
  if (role_ == Role::kSyncing || role_ == Role::kArming || role_ == Role::kProtected) {
    CheckPeer(now_ns);
  }
  if (now_ns >= handover_deadline_ns_) {
    handover_ = false;
    handover_sent_ = false;
    handover_deadline_ns_ = kNever;
    actions_.Report("the handover did not happen in time");
    if (phase_ == Phase::kStopped) ContinueStopped(now_ns);
  }
  PursueRegister(now_ns);
  if (now_ns >= sync_at_ns_) SyncRound(now_ns);
  if (role_ != Role::kArming && role_ != Role::kProtected) return;
  if (phase_ == Phase::kRunning && now_ns >= next_epoch_ns_) StartEpoch(now_ns);
  // The arbiter leaves this side without an answer and nothing is committed: the guests must not
  // run on for ever with output that nobody gets.
  if (now_ns >= PatienceEndNs()) StopGuests(PauseReason::kSoloUnanswered, now_ns);
}

// When the wait for the arbiter's answer turns into a pause.
int64_t Primary::PatienceEndNs() const {
  const bool stuck = link_state_ != LinkState::kUp || AnyEnded();
  if (role_ != Role::kArming && role_ != Role::kProtected) return kNever;
  if (phase_ != Phase::kRunning || solo_since_ns_ == kNever || !stuck || opening_) return kNever;
  return solo_since_ns_ + config_.solo_patience_ns;
}

// When to look for a backup or a new link; not for a backup while the protection is to end.
int64_t Primary::LinkRetryNs() const {
  const bool ending = want_none_ && session_ == kNoSession;
  if (link_state_ != LinkState::kDown || opening_ || ending || AnyEnded()) return kNever;
  return link_retry_at_ns_;
}

// When the lack of a commit counts as the lack of a link. An epoch that is under way on a link is
// carried, however long it takes: without progress the link is given up.
int64_t Primary::RearmDeadlineNs() const {
  const bool carrying = link_state_ == LinkState::kUp && flight_.active && !flight_.acked;
  if (carrying || no_commit_since_ns_ == kNever) return kNever;
  return no_commit_since_ns_ + config_.rearm_ns;
}

// The earliest of the deadlines that CheckPeer looks at.
int64_t Primary::PeerDeadlineNs() const {
  int64_t wake = kNever;
  if (link_state_ == LinkState::kUp && flight_.active && !flight_.acked) {
    wake = flight_.progress_ns + config_.progress_ns;
  }
  const int64_t rearm = RearmDeadlineNs();
  if (role_ == Role::kSyncing) {
    return link_state_ == LinkState::kUp ? wake : std::min(wake, rearm);
  }
  if ((role_ != Role::kArming && role_ != Role::kProtected) || want_solo_ || want_none_) {
    return wake;
  }
  wake = std::min(wake, rearm);
  if (link_state_ != LinkState::kUp) wake = std::min(wake, last_sign_ns_ + config_.detect_ns);
  if (stopped_since_ns_ != kNever) {
    wake = std::min(wake, stopped_since_ns_ + config_.pause_budget_ns);
  }
  return wake;
}

int64_t Primary::NextWakeNs() const {
  if (role_ == Role::kEnded) return kNever;
  int64_t wake = std::min({register_.NextWakeNs(), reopen_at_ns_, open_deadline_ns_,
                           handover_deadline_ns_, sync_at_ns_, PeerDeadlineNs(), PatienceEndNs()});
  if (phase_ == Phase::kStopping) {
    wake = std::min(wake, phase_since_ns_ + config_.suspend_deadline_ns);
  }
  if (phase_ == Phase::kResuming || phase_ == Phase::kTakingBack) {
    wake = std::min(wake, phase_since_ns_ + config_.resume_deadline_ns);
  }
  wake = std::min(wake, LinkRetryNs());
  const bool wants = role_ == Role::kStarting || want_none_ || want_solo_ || role_ == Role::kArming;
  if (wants && !register_.change_pending()) wake = std::min(wake, register_retry_at_ns_);
  if (phase_ == Phase::kRunning && (role_ == Role::kArming || role_ == Role::kProtected)) {
    wake = std::min(wake, next_epoch_ns_);
  }
  return wake;
}

ProtectionState Primary::state(int64_t now_ns) const {
  if (end_ == PrimaryEnd::kDeposed) return ProtectionState::kDeposed;
  if (stopped_since_ns_ != kNever && now_ns >= stopped_since_ns_ + config_.detect_ns) {
    return ProtectionState::kPaused;
  }
  switch (role_) {
    case Role::kStarting:
    case Role::kUnprotected:
    case Role::kEnded:
      return ProtectionState::kUnprotected;
    case Role::kSyncing:
    case Role::kArming:
      return ProtectionState::kSyncing;
    case Role::kProtected:
      break;
  }
  const int64_t age_ns =
      std::max(config_.protected_age_ns, kProtectedIntervals * config_.interval_ns);
  const bool fresh = now_ns < last_ack_ns_ + age_ns;
  const bool whole = link_state_ == LinkState::kUp && fresh && !want_solo_ && !output_broken_;
  return whole ? ProtectionState::kProtected : ProtectionState::kDegraded;
}

}  // namespace haven
