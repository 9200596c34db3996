// SPDX-License-Identifier: Apache-2.0
//
// The backup's protocol: one replica, its commits, its promotion (DESIGN.md sections 5 to 7). No
// I/O, no clock.
#ifndef HAVEN_ENGINE_BACKUP_BACKUP_H_
#define HAVEN_ENGINE_BACKUP_BACKUP_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/backup/backup_actions.h"
#include "engine/base/clock.h"
#include "engine/membership/register_client.h"
#include "engine/replica/control_message.h"
#include "engine/replica/identity.h"

namespace haven {

// All times in nanoseconds.
struct BackupConfig {
  std::string owner;                   // The name that this copy would have in the register.
  int64_t detect_ns = 100 * kNsPerMs;  // Silence on every path before promotion is asked for.
  int64_t arbiter_retry_ns = 200 * kNsPerMs;  // Between repetitions of an unanswered request.
  int64_t register_poll_ns =
      500 * kNsPerMs;  // Between reads until the register names this session.
  // A replica nobody uses is kept for so long as a base, and until the register says that it is not
  // wanted.
  int64_t keep_ns = 600 * kNsPerSecond;
  // ... but for so long only, after the primary's last sign, if the register says that nobody is
  // protected: whoever protects the guest anew has no dirty sets that lead back to it.
  int64_t forget_ns = 10 * kNsPerSecond;
  int64_t copy_retry_ns = 200 * kNsPerMs;  // Between attempts to destroy a copy, or to run it.
};

// One replica from the first session to its promotion or its end. Events in, actions out. Not
// thread-safe; allocates nothing on the epoch path. The table of its states stands in
// docs/ARCHITECTURE.md.
class Backup {
 public:
  enum class State : uint8_t {
    kWaiting,      // No session yet.
    kAdopting,     // A new session wants the replica that is here: the register is asked first.
    kSyncing,      // The replica is being filled; it is no guest's state.
    kStandby,      // The replica equals the guest at a committed epoch.
    kClaiming,     // The primary is silent, or hands over: promotion is being asked for.
    kCuttingOff,   // Granted: the old writer is being cut off,
    kReading,      // ... the journal read,
    kApplying,     // ... the last epoch applied,
    kPreparing,    // ... the copies prepared,
    kStarting,     // ... the register told that they will run.
    kRunning,      // They are being started; nothing can go back.
    kHandingBack,  // The promotion failed: copies destroyed, the term goes back.
    kStale,        // The register says that this replica may not run: kept as a base only.
    kAbandoning,   // The copies are being destroyed.
    kEnded,
  };
  static const char* StateName(State state);

  Backup(const BackupConfig& config, BackupActions& actions, ArbiterPort& arbiter, IdSource& ids);

  // A primary asks for a session. `base_session`/`base_epoch`: the replica it would go on with.
  void OnHello(SessionId session, SessionId base_session, Epoch base_epoch, int64_t now_ns);
  // The session's control channel asks for a link.
  void OnLinkRequest(SessionId session, LinkNumber link, int64_t now_ns);
  void OnLinkUp(LinkNumber link, int64_t now_ns);
  void OnLinkDown(LinkNumber link);
  // The primary says that the session is over.
  void OnDrop(SessionId session, DropReason reason, int64_t now_ns);
  // Any sign of life of the primary, on any path.
  void OnPeerSign(int64_t now_ns) { last_sign_ns_ = now_ns; }

  // The data path has verified a whole epoch of the current link.
  void OnVerified(Epoch epoch, EpochKind kind, int64_t now_ns);
  // What arrived is not sound: the link is dropped, nothing was committed.
  void OnBadEpoch();
  // What arrived is not committed, as the copy is lost: destroyed, let run, or without whoever
  // keeps it. The session takes no more; it ends when the register says that nobody needs it. Until
  // then what is committed may be promoted, if the copy can still be run.
  void OnCopyLost(int64_t now_ns);
  void OnApplied(Epoch epoch, const absl::Status& status);

  void OnHandover(SessionId session, Epoch epoch, int64_t now_ns);
  // An operator asks for promotion (the primary may be alive: the register decides).
  absl::Status Promote(int64_t now_ns);

  void OnCutOff(const absl::Status& status);
  // `epoch`: one more epoch, verified; kNoEpoch: there is none.
  void OnFinalRead(Epoch epoch, EpochKind kind);
  void OnPrepared(const absl::Status& status, int64_t now_ns);
  void OnRunning(const absl::Status& status, int64_t now_ns);
  void OnAbandoned(const absl::Status& status, int64_t now_ns);

  void OnArbiterAnswer(const RegisterAnswer& answer, int64_t now_ns);
  void OnTick(int64_t now_ns);
  int64_t NextWakeNs() const;

  State state() const { return state_; }
  BackupEnd end() const { return end_; }
  SessionId session() const { return session_; }
  LinkNumber link() const { return link_; }
  bool link_up() const { return link_up_; }
  Epoch committed() const { return committed_; }
  Epoch applied() const { return applied_; }
  bool consistent() const { return consistent_; }
  bool copy_lost() const { return copy_lost_; }
  // Whether epochs may still come, and the copy be abandoned: no promotion is being carried out.
  bool receiving() const;
  const char* cause() const { return cause_; }
  const RegisterClient& registers() const { return register_; }
  bool healthy(int64_t now_ns) const { return NextWakeNs() > now_ns - kNsPerSecond; }

 private:
  void Adopt(SessionId session, bool base, Epoch base_epoch, int64_t now_ns);
  void Commit(Epoch epoch, EpochKind kind);
  void DropLink();
  void LetGo(int64_t now_ns);
  bool MayClaim() const;
  void Claim(const char* cause, int64_t now_ns);
  void AskPromotion(int64_t now_ns);
  void OnPromotionAnswer(const RegisterClient::Outcome& outcome, int64_t now_ns);
  void OnRegisterRead(const std::optional<Register>& current, int64_t now_ns);
  void OnCutOffProven();
  void FinishApply();
  void FailPromotion(const char* cause);
  void HandBack(int64_t now_ns);
  void Retire(const char* cause, int64_t now_ns);
  void Abandon(const char* cause);
  void EndWith(BackupEnd end, const char* cause);
  void SetState(State state, const char* cause);
  bool StillWanted(int64_t now_ns) const;
  bool Forgotten(const std::optional<Register>& current) const;
  bool NeverPromotable() const;
  int64_t ClaimNs() const;

  const BackupConfig config_;
  BackupActions& actions_;
  RegisterClient register_;

  State state_ = State::kWaiting;
  BackupEnd end_ = BackupEnd::kNotYet;
  const char* cause_ = "waiting for a session";

  SessionId session_ = kNoSession;
  LinkNumber link_ = kNoLink;  // The newest asked for.
  bool link_up_ = false;
  Epoch committed_ = kNoEpoch;
  Epoch applied_ = kNoEpoch;
  bool consistent_ = false;  // A checkpoint of this session is committed.
  bool poisoned_ = false;    // An apply failed: the memory is nobody's state.
  bool copy_lost_ = false;
  bool handover_ = false;
  bool operator_asked_ = false;

  // A session that wants the replica, while the register is asked.
  SessionId wanted_session_ = kNoSession;
  Epoch wanted_epoch_ = kNoEpoch;
  Epoch committed_at_hello_ = kNoEpoch;
  int64_t claim_not_before_ns_ = 0;
  bool unwanted_ = false;  // The primary says that the protection has ended.
  // The register has named this session; and since when the primary is known to be done with it.
  bool was_named_ = false;
  int64_t let_go_ns_ = kNever;

  // The register as granted by the promotion, and what it was before.
  std::optional<Register> mine_;
  std::optional<Register> before_;

  int64_t last_sign_ns_ = 0;
  int64_t poll_at_ns_ = kNever;
  int64_t stale_until_ns_ = kNever;
  int64_t retry_at_ns_ = kNever;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_BACKUP_H_
