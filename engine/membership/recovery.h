// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a copy whose engine is gone or was deposed (DESIGN.md sections 3 and 7). No I/O,
// no clock.
#ifndef HAVEN_ENGINE_MEMBERSHIP_RECOVERY_H_
#define HAVEN_ENGINE_MEMBERSHIP_RECOVERY_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/membership/register_client.h"

namespace haven {

struct RecoveryConfig {
  std::string owner;  // This copy's name in the register: node id, '.', the copy's own id.
  // This copy has never had a session: nothing of it is held, and another owner does not depose it.
  bool is_new = false;
  // What is claimed is the end of the protection: mode `none` instead of `solo`.
  bool ending = false;
  // All guests of the group are here.
  bool whole = true;
  int64_t arbiter_retry_ns = 200 * kNsPerMs;
  int64_t poll_ns = 200 * kNsPerMs;         // Between reads while a new owner sets itself up.
  int64_t patience_ns = 2 * kNsPerSecond;   // No answer for so long: the guests are paused.
  int64_t takeback_ns = 30 * kNsPerSecond;  // A new owner that never runs loses the term again.
};

// Effects. OnGuestsDestroyed answers DestroyGuests; the others need no answer.
class RecoveryActions {
 public:
  virtual ~RecoveryActions() = default;
  // Lets the guests run, with their output held as it is.
  virtual void ResumeGuests() = 0;
  // Stops them as soon as they can be; output stays held.
  virtual void StopGuests() = 0;
  // Destroys them for good, then their held output.
  virtual void DestroyGuests() = 0;
  virtual void Report(const char* cause) = 0;
};

// Runs in the guard whenever there is a copy and no engine. The output is held at the start and
// stays held until the outcome kOpen: a value that was merely read never opens it, since an older
// request of the dead engine may still be on its way; only a change granted to this object does,
// because it makes every older request's expectation stale.
class Recovery {
 public:
  enum class State : uint8_t {
    kClaiming,    // Finding out whether this copy still owns the group.
    kDeposed,     // Another copy owns it and does not run yet.
    kDestroying,  // It runs, or this one was never whole: this one goes.
    kDone,
  };
  enum class Outcome : uint8_t {
    kNotYet,
    kOpen,       // Ours, mode `solo`, or `none` if ending: open the output. See value().
    kDestroyed,  // Another copy runs, or may take the term back; this one is gone.
    kAbsent,     // is_new only: there is no register yet.
    kRefused,    // is_new only: the group belongs to another copy. See current().
  };

  Recovery(const RecoveryConfig& config, RecoveryActions& actions, ArbiterPort& arbiter,
           IdSource& ids);

  // The engine died, or this guard was started and found a copy: it goes on running, output held.
  void StartAfterCrash(int64_t now_ns);
  // The engine was told that another copy owns the group.
  void StartDeposed(int64_t now_ns);

  void OnArbiterAnswer(const RegisterAnswer& answer, int64_t now_ns);
  void OnGuestsDestroyed(const absl::Status& status, int64_t now_ns);
  void OnTick(int64_t now_ns);
  int64_t NextWakeNs() const;

  State state() const { return state_; }
  Outcome outcome() const { return outcome_; }
  // The register as it was granted; meaningful with kOpen.
  const Register& value() const { return *register_.known(); }
  // The register as last seen.
  const std::optional<Register>& current() const { return register_.known(); }
  const RegisterClient& registers() const { return register_; }
  bool paused() const { return paused_; }
  const char* cause() const { return cause_; }

 private:
  void Evaluate(const std::optional<Register>& current, int64_t now_ns);
  void Claim(const Register& current, Term term, int64_t now_ns);
  void EvaluateNew(const std::optional<Register>& current, int64_t now_ns);
  void End(Outcome outcome, const char* cause);
  void AskAgain(int64_t now_ns);
  void Stop();
  void Report(const char* cause);

  const RecoveryConfig config_;
  RecoveryActions& actions_;
  RegisterClient register_;
  State state_ = State::kClaiming;
  Outcome outcome_ = Outcome::kNotYet;
  bool paused_ = false;
  const char* cause_ = "";
  int64_t since_ns_ = 0;  // No word about who owns the group since.
  int64_t ask_at_ns_ = kNever;
  int64_t destroy_at_ns_ = kNever;
  // The value of a new owner that does not run yet, and when it was first seen.
  std::optional<Register> stuck_;
  int64_t stuck_since_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_RECOVERY_H_
