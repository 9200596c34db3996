// SPDX-License-Identifier: Apache-2.0
//
// The primary's protocol: epochs, link, register (DESIGN.md sections 4, 5 and 7). No I/O, no clock.
#ifndef HAVEN_ENGINE_PRIMARY_PRIMARY_H_
#define HAVEN_ENGINE_PRIMARY_PRIMARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/membership/register_client.h"
#include "engine/primary/primary_actions.h"
#include "engine/replica/identity.h"

namespace haven {

// All times in nanoseconds.
struct PrimaryConfig {
  std::string
      owner;  // This copy's name in the register: node id, '.', 16 hex digits of the copy's id.
  uint32_t domains = 1;  // Guests in the group.

  int64_t interval_ns = 50 * kNsPerMs;             // Start of an epoch to the start of the next.
  int64_t suspend_deadline_ns = 1 * kNsPerSecond;  // Request to all guests stopped.
  uint32_t suspend_retries = 3;                    // Missed deadlines before solo is asked for.
  int64_t resume_deadline_ns = 1 * kNsPerSecond;   // Resume to running; then it is asked for again.
  int64_t detect_ns = 100 * kNsPerMs;          // Silence on every path before the arbiter is asked.
  int64_t rearm_ns = 2 * kNsPerSecond;         // Time without a link that carries epochs.
  int64_t progress_ns = 500 * kNsPerMs;        // An epoch on the wire without any progress.
  int64_t pause_budget_ns = 2 * kNsPerSecond;  // Guests stopped for somebody else's answer.
  int64_t solo_patience_ns = 2 * kNsPerSecond;  // Solo asked for and unanswered: pause the guests.
  // `protected` means an acknowledgement this young, or of the last kProtectedIntervals epochs.
  int64_t protected_age_ns = 1 * kNsPerSecond;
  int64_t session_retry_ns = 1 * kNsPerSecond;  // Between attempts to find a backup.
  int64_t link_retry_ns = 50 * kNsPerMs;        // Between attempts to reconnect.
  // One attempt to agree on a session: the backup builds its copy meanwhile.
  int64_t session_deadline_ns = 90 * kNsPerSecond;
  int64_t open_deadline_ns = 5 * kNsPerSecond;  // One attempt to open a link.
  int64_t arbiter_retry_ns = 200 * kNsPerMs;    // Between repetitions of an unanswered request.
  int64_t handover_ns = 10 * kNsPerSecond;      // Backup asked to take over and nothing happened.

  uint64_t sync_threshold_pages = 4096;  // Pre-copy ends when a round is no larger than this ...
  uint32_t sync_rounds_max = 8;          // ... or after this many whole rounds.
};

// An acknowledgement is young for so many intervals, where these are longer than the stated age.
inline constexpr int64_t kProtectedIntervals = 3;

// The answer to PrimaryActions::Capture.
struct CaptureReport {
  enum class Result : uint8_t {
    kOk = 0,
    kTooLarge = 1,  // A checkpoint that staging can not hold. Nothing was taken.
    kFailed = 2,  // The log or the state could not be read; nothing was taken, all pages are dirty.
    // A guest goes on, and was not told to. Nothing was taken, and what would have been is dirty.
    kGuestRuns = 3,
  };
  Result result = Result::kOk;
  uint64_t pages = 0;          // In this epoch.
  uint64_t pending_pages = 0;  // Dirty and left for the next one (kSync only).
};

// Which of PrimaryActions' output calls is answered.
enum class OutputOp : uint8_t { kHold, kBarrier, kRelease, kOpen, kRebuild };

// Why guests are stopped for longer than an epoch needs.
enum class PauseReason : uint8_t {
  kNone,
  kAwaitAck,        // The dirty mark was reached while an epoch is unacknowledged.
  kTooLarge,        // The dirty set does not fit; waiting for solo.
  kSoloUnanswered,  // The backup is lost and the arbiter does not answer.
  kHandover,        // Handing over.
  kOutputRebuild,   // The output buffer failed; the stopped state is being committed.
  kGuestEnded,      // A guest of the group is gone; waiting for the register.
  kOutputOpening,   // Solo is granted, and the output can not be opened yet.
  kCaptureFailed,   // The dirty log or the state can not be read; waiting for solo.
};

enum class ProtectionState : uint8_t {
  kUnprotected,
  kSyncing,
  kProtected,
  kDegraded,
  kPaused,
  kPromoting,
  kPromoted,
  kDeposed,
};
const char* ProtectionStateName(ProtectionState state);

// The state machine. Events in, actions out; every wait is a deadline that NextWakeNs() names and
// OnTick() acts on. Not thread-safe; allocates nothing on the epoch path. The table of its states
// stands in docs/ARCHITECTURE.md.
class Primary {
 public:
  // Where the guest's output stands and what a loss of the backup means.
  enum class Role : uint8_t {
    kStarting,     // The register is being created.
    kUnprotected,  // Register `none` or `solo`: output open, looking for a backup.
    kSyncing,      // A session fills the replica: output open.
    kArming,       // First checkpoint and the request for `promotable`: output held.
    kProtected,    // Register `promotable` for this session: output held.
    kEnded,        // See end().
  };
  // Where the guests stand.
  enum class Phase : uint8_t {
    kRunning,     // They run.
    kStopping,    // Asked to stop.
    kTakingBack,  // A request to stop is being taken back.
    kStopped,     // All stopped, waiting for something: see pause_reason().
    kHolding,     // First checkpoint: the buffer is being closed.
    kBarrier,     // The buffer's mark is being set.
    kCapturing,   // Pages and state are being copied.
    kResuming,    // Asked to run.
    kRebuilding,  // The buffer is being built anew.
  };
  enum class LinkState : uint8_t { kDown, kOpeningSession, kOpeningLink, kUp };

  // Everything passed in outlives this object.
  Primary(const PrimaryConfig& config, PrimaryActions& actions, ArbiterPort& arbiter,
          IdSource& ids);

  // Guests run with open output. `current` is the register: absent, or this node's own with mode
  // `none` or `solo` (the guard has seen to that: engine/membership/recovery.h).
  void Start(const std::optional<Register>& current, int64_t now_ns);

  // Guests.
  void OnGuestSuspended(uint32_t domain, int64_t now_ns);
  void OnGuestRunning(uint32_t domain, int64_t now_ns);
  void OnGuestEnded(uint32_t domain, int64_t now_ns);
  // The dirty set has reached the mark at which an epoch is closed early.
  void OnDirtyMark(int64_t now_ns);

  // Output.
  void OnOutput(OutputOp op, const absl::Status& status, int64_t now_ns);
  // The buffer is not intact any more (OutputBuffer::Health).
  void OnOutputBroken(int64_t now_ns);

  // Data path.
  void OnCaptured(const CaptureReport& report, int64_t now_ns);
  // Bytes, credits or ring space have moved for the epoch on the wire.
  void OnSendProgress(int64_t now_ns);
  // The peer block says that `epoch` is committed. Anything that is not this session's and this
  // link's is ignored.
  void OnAck(SessionId session, LinkNumber link, Epoch epoch, int64_t now_ns);

  // Session and link. `base_accepted`: the backup still has the replica offered as a base.
  void OnSession(SessionId session, bool ok, bool base_accepted, int64_t now_ns);
  void OnLinkUp(LinkNumber link, Epoch committed, int64_t now_ns);
  void OnLinkDown(LinkNumber link, int64_t now_ns);
  // The backup says that the session is over for it.
  void OnSessionLost(SessionId session, int64_t now_ns);
  // A guest has other devices than its copy: it is to run alone, and the session to end. Epochs go
  // on until the register says so. May be said again and again.
  void OnDevicesChanged(int64_t now_ns);
  // Any sign of life of the backup, on any path.
  void OnPeerSign(int64_t now_ns) { last_sign_ns_ = now_ns; }
  // The backup says that it has been promoted. Only the register decides.
  void OnPeerPromoted(int64_t now_ns);
  void OnHandoverRefused(SessionId session, int64_t now_ns);

  void OnArbiterAnswer(const RegisterAnswer& answer, int64_t now_ns);

  // Operator.
  void Unprotect(int64_t now_ns);
  // FailedPrecondition unless protected.
  absl::Status Handover(int64_t now_ns);
  // The epoch that is awaited comes no later than so long from now.
  void SetInterval(int64_t interval_ns, int64_t now_ns);

  void OnTick(int64_t now_ns);
  int64_t NextWakeNs() const;

  // When the guests are to be stopped for the next epoch; kNever: not known, or as soon as may be.
  int64_t next_epoch_ns() const { return next_epoch_ns_; }

  // What the status shows.
  ProtectionState state(int64_t now_ns) const;
  Role role() const { return role_; }
  Phase phase() const { return phase_; }
  LinkState link_state() const { return link_state_; }
  PauseReason pause_reason() const { return pause_reason_; }
  PrimaryEnd end() const { return end_; }
  SessionId session() const { return session_; }
  LinkNumber link() const { return link_; }
  Epoch acked_epoch() const { return acked_; }
  Epoch epoch_in_flight() const { return flight_.active ? flight_.epoch : kNoEpoch; }
  int64_t last_ack_ns() const { return last_ack_ns_; }
  bool wants_solo() const { return want_solo_; }
  const char* cause() const { return cause_; }
  const RegisterClient& registers() const { return register_; }

  // True while every wait is within its deadline: what the heartbeat may vouch for.
  bool healthy(int64_t now_ns) const { return NextWakeNs() > now_ns - config_.progress_ns; }

 private:
  // An epoch that is captured and not yet acknowledged and released.
  struct Flight {
    bool active = false;
    bool sent = false;   // On any link: else nobody can have it.
    bool acked = false;  // Waiting for the release only.
    Epoch epoch = kNoEpoch;
    EpochKind kind = EpochKind::kSync;
    // The guests have stood still since it was captured: it is all that they have done.
    bool final_state = false;
    int64_t progress_ns = 0;
  };

  // primary_epoch.cc: guests stop, output is marked, pages are captured, guests run, output goes.
  void StartEpoch(int64_t now_ns);
  void StopGuests(PauseReason stay, int64_t now_ns);
  bool AllStopped() const;
  void AllGuestsStopped(int64_t now_ns);
  void ContinueStopped(int64_t now_ns);
  void CaptureCheckpoint(int64_t now_ns);
  void OnSyncCaptured(const CaptureReport& report, int64_t now_ns);
  void OnSyncFailed(int64_t now_ns);
  void OnCheckpointFailed(const CaptureReport& report, int64_t now_ns);
  void AbandonFutile(const char* cause, int64_t now_ns);
  void ResumeGuests(Phase phase, int64_t now_ns);
  void GiveUpStopping(int64_t now_ns);
  void StartFlight(EpochKind kind, int64_t now_ns);
  void Acked(int64_t now_ns);
  void FlightDone(int64_t now_ns);
  void DropFlight();
  void Pause(PauseReason reason, int64_t now_ns);
  void SyncRound(int64_t now_ns);

  // primary_link.cc: sessions and links come and go.
  void TryLink(int64_t now_ns);
  void LinkLost(const char* cause, int64_t now_ns);
  void CheckPeer(int64_t now_ns);
  void EndSession(DropReason reason, const char* cause);
  void AbandonSession(const char* cause, int64_t now_ns);
  void SessionBroken(const char* cause, int64_t now_ns);

  // primary_register.cc: what is asked of the arbiter and what follows.
  void PursueRegister(int64_t now_ns);
  void AskFor(RegisterPurpose purpose, RegisterMode mode, SessionId session, int64_t now_ns);
  void WantSolo(const char* cause, int64_t now_ns);
  void WantNone(PrimaryEnd end, const char* cause, int64_t now_ns);
  void OnGranted(RegisterPurpose purpose, int64_t now_ns);
  void OnDenied(const std::optional<Register>& current, int64_t now_ns);
  void GoOpen(const char* cause, int64_t now_ns);
  void RequestOpen();
  void Finish(PrimaryEnd end, const char* cause);

  void SetPhase(Phase phase, int64_t now_ns);
  void SetRole(Role role, const char* cause);
  bool AnyEnded() const;
  int64_t PatienceEndNs() const;
  int64_t PeerDeadlineNs() const;
  int64_t RearmDeadlineNs() const;
  int64_t LinkRetryNs() const;

  PrimaryConfig config_;
  PrimaryActions& actions_;
  IdSource& ids_;
  RegisterClient register_;

  Role role_ = Role::kStarting;
  Phase phase_ = Phase::kRunning;
  LinkState link_state_ = LinkState::kDown;
  PauseReason pause_reason_ = PauseReason::kNone;
  PrimaryEnd end_ = PrimaryEnd::kNotYet;
  const char* cause_ = "starting";

  // Session, link, epochs.
  SessionId session_ = kNoSession;
  LinkNumber link_ = kNoLink;
  ReplicaBase base_;
  Epoch next_epoch_ = 1;
  Epoch acked_ = kNoEpoch;
  Flight flight_;
  bool promotable_asked_ = false;  // In this session: from then on a promotion is possible.
  bool epoch_due_ = false;

  // Initial copy.
  bool sync_capturing_ = false;
  bool sync_done_ = false;
  uint32_t sync_rounds_ = 0;
  uint64_t sync_round_ = 0;  // Pages that were dirty at the start of the round,
  uint64_t sync_left_ = 0;   // and how many of them are not sent yet.

  // Guests.
  std::vector<bool> stopped_;   // Suspended since the last request.
  std::vector<bool> resuming_;  // Asked to run and not yet seen running.
  std::vector<bool> ended_;
  PauseReason stay_ = PauseReason::kNone;  // Why guests stay stopped if no epoch can be taken.
  uint32_t missed_suspends_ = 0;
  uint32_t failed_captures_ = 0;  // Of checkpoints in a row,
  uint32_t failed_syncs_ = 0;     // and of rounds of the live copy.
  uint32_t futile_syncs_ = 0;     // Sessions in a row that ended because of either.

  // Output.
  bool holding_ = false;  // Held, or being closed; false from the moment it is to be opened.
  bool mark_outstanding_ = false;  // A barrier whose epoch is not released.
  bool output_broken_ = false;
  bool opening_ = false;  // OpenOutput is to be confirmed before anything else happens to output.

  // What is asked of this engine.
  bool want_solo_ = false;
  bool devices_changed_ = false;  // Of a guest, in this session: a reason for solo that stays.
  bool want_none_ = false;
  PrimaryEnd none_end_ = PrimaryEnd::kUnprotected;
  bool handover_ = false;
  bool handover_sent_ = false;

  // Times.
  int64_t next_epoch_ns_ = kNever;
  int64_t phase_since_ns_ = 0;
  int64_t stopped_since_ns_ = kNever;  // Guests stopped for somebody else's answer.
  int64_t last_sign_ns_ = 0;
  int64_t last_ack_ns_ = 0;
  int64_t no_commit_since_ns_ = kNever;  // No link has carried an epoch since.
  int64_t link_retry_at_ns_ = kNever;
  int64_t open_deadline_ns_ = kNever;
  int64_t sync_at_ns_ = kNever;
  int64_t reopen_at_ns_ = kNever;
  int64_t solo_since_ns_ = kNever;
  int64_t handover_deadline_ns_ = kNever;
  int64_t register_retry_at_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_PRIMARY_H_
