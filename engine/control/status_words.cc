// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_words.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/membership/register.h"

namespace haven {

namespace {

constexpr char kCheckBackup[] =
    "check that the backup runs and that the network to it works; the error says what was tried "
    "last";
constexpr char kCheckArbiter[] = "bring the arbiter back, or give its word by hand";

Explanation ExplainPause(PauseReason reason) {
  switch (reason) {
    case PauseReason::kNone:
      return {"the guests are stopped for an epoch", ""};
    case PauseReason::kAwaitAck:
      return {"the guests write faster than the backup acknowledges; they wait for it",
              "a faster link, a shorter interval or more staging memory; look at the phases"};
    case PauseReason::kTooLarge:
      return {
          "one epoch does not fit staging and journal; waiting for the arbiter's word to go on "
          "alone",
          absl::StrCat("enlarge staging and journal for the next session; ", kCheckArbiter)};
    case PauseReason::kSoloUnanswered:
      return {"the backup is lost and the arbiter does not say who goes on",
              absl::StrCat(kCheckArbiter, ", or bring the backup back")};
    case PauseReason::kHandover:
      return {"handing over to the backup", ""};
    case PauseReason::kOutputRebuild:
      return {
          "the output buffer was tampered with; it is rebuilt when the stopped state is committed",
          "leave the guests' network devices and their queueing to the engine"};
    case PauseReason::kGuestEnded:
      return {"a guest of the group has ended; waiting for the arbiter's word to end protection",
              kCheckArbiter};
    case PauseReason::kOutputOpening:
      return {"running alone is granted, and the output can not be opened yet",
              "look at the error: somebody else changes the guests' network devices"};
    case PauseReason::kCaptureFailed:
      return {
          "the guests' dirty log or state can not be read; waiting for the arbiter's word to go on "
          "alone",
          absl::StrCat("look at the error: another tool may have taken the log; ", kCheckArbiter)};
  }
  HAVEN_CHECK(false) << "no such reason";
  return {};
}

Explanation ExplainDegraded(const Primary& primary) {
  if (primary.wants_solo()) {
    return {absl::StrCat(primary.cause(), "; the arbiter is asked whether to go on alone"),
            kCheckBackup};
  }
  if (primary.link_state() != Primary::LinkState::kUp) {
    return {"no link to the backup; output is held, a new link is being made", kCheckBackup};
  }
  return {"the last acknowledgement is too old, or the output buffer is not intact", kCheckBackup};
}

Explanation ExplainUnprotected(const Primary& primary) {
  if (primary.role() == Primary::Role::kStarting) {
    return {"waiting for the arbiter's first answer", kCheckArbiter};
  }
  const bool ended = primary.role() == Primary::Role::kEnded;
  return {primary.cause(), ended ? "" : kCheckBackup};
}

}  // namespace

Explanation ExplainPrimary(const Primary& primary, int64_t now_ns) {
  switch (primary.state(now_ns)) {
    case ProtectionState::kProtected:
      return {"every epoch is acknowledged by the backup", ""};
    case ProtectionState::kSyncing:
      if (primary.role() == Primary::Role::kArming) {
        return {"the first checkpoint is committed; the arbiter is asked to name the backup", ""};
      }
      return {absl::StrCat(primary.cause(), "; not promotable yet"), ""};
    case ProtectionState::kDegraded:
      return ExplainDegraded(primary);
    case ProtectionState::kPaused:
      return ExplainPause(primary.pause_reason());
    case ProtectionState::kDeposed:
      return {primary.cause(),
              "nothing: the guests stay stopped and are destroyed when the other copy runs"};
    case ProtectionState::kUnprotected:
    case ProtectionState::kPromoting:
    case ProtectionState::kPromoted:
      return ExplainUnprotected(primary);
  }
  HAVEN_CHECK(false) << "no such state";
  return {};
}

Explanation ExplainBackup(const Backup& backup) {
  switch (backup.state()) {
    case Backup::State::kClaiming:
    case Backup::State::kStarting:
    case Backup::State::kHandingBack:
      return {backup.cause(), backup.registers().last_cause().ok() ? "" : kCheckArbiter};
    case Backup::State::kStandby:
      if (backup.copy_lost()) return {backup.cause(), "nothing: the next session builds another"};
      if (!backup.link_up())
        return {"no link from the primary", "check the network between the hosts"};
      return {backup.cause(), ""};
    default:
      return {backup.cause(), ""};
  }
}

const char* PhaseWord(Primary::Phase phase) {
  switch (phase) {
    case Primary::Phase::kRunning:
      return "running";
    case Primary::Phase::kStopping:
      return "stopping";
    case Primary::Phase::kTakingBack:
      return "taking a stop back";
    case Primary::Phase::kStopped:
      return "stopped";
    case Primary::Phase::kHolding:
      return "closing the output";
    case Primary::Phase::kBarrier:
      return "marking the output";
    case Primary::Phase::kCapturing:
      return "capturing";
    case Primary::Phase::kResuming:
      return "resuming";
    case Primary::Phase::kRebuilding:
      return "rebuilding the output buffer";
  }
  HAVEN_CHECK(false) << "no such phase";
  return "";
}

const char* LinkStateWord(Primary::LinkState state) {
  switch (state) {
    case Primary::LinkState::kDown:
      return "down";
    case Primary::LinkState::kOpeningSession:
    case Primary::LinkState::kOpeningLink:
      return "opening";
    case Primary::LinkState::kUp:
      return "up";
  }
  HAVEN_CHECK(false) << "no such state";
  return "";
}

const char* PurposeWord(RegisterPurpose purpose) {
  switch (purpose) {
    case RegisterPurpose::kNothing:
      return "";
    case RegisterPurpose::kRead:
      return "the register's value";
    case RegisterPurpose::kCreate:
      return "a new register";
    case RegisterPurpose::kPromotable:
      return "promotable";
    case RegisterPurpose::kSolo:
      return "solo";
    case RegisterPurpose::kNone:
      return "the end of protection";
    case RegisterPurpose::kPromote:
      return "promotion";
    case RegisterPurpose::kRunning:
      return "leave to run";
    case RegisterPurpose::kHandBack:
      return "the return of the term";
  }
  HAVEN_CHECK(false) << "no such purpose";
  return "";
}

ProtectionState BackupProtection(const Backup& backup, bool fresh) {
  switch (backup.state()) {
    case Backup::State::kWaiting:
    case Backup::State::kAdopting:
    case Backup::State::kSyncing:
      return ProtectionState::kSyncing;
    case Backup::State::kStandby: {
      const std::optional<Register>& known = backup.registers().known();
      const bool named = known.has_value() && known->mode == RegisterMode::kPromotable &&
                         known->session == backup.session();
      if (!named) return ProtectionState::kSyncing;
      return backup.link_up() && fresh ? ProtectionState::kProtected : ProtectionState::kDegraded;
    }
    case Backup::State::kClaiming:
    case Backup::State::kCuttingOff:
    case Backup::State::kReading:
    case Backup::State::kApplying:
    case Backup::State::kPreparing:
    case Backup::State::kStarting:
    case Backup::State::kRunning:
    case Backup::State::kHandingBack:
      return ProtectionState::kPromoting;
    case Backup::State::kStale:
    case Backup::State::kAbandoning:
      return ProtectionState::kUnprotected;
    case Backup::State::kEnded:
      return backup.end() == BackupEnd::kPromoted ? ProtectionState::kPromoted
                                                  : ProtectionState::kUnprotected;
  }
  HAVEN_CHECK(false) << "no such state";
  return ProtectionState::kUnprotected;
}

PrimaryState PrimaryWireState(const Primary& primary, int64_t now_ns) {
  switch (primary.state(now_ns)) {
    case ProtectionState::kSyncing:
      return PrimaryState::kSyncing;
    case ProtectionState::kProtected:
      return PrimaryState::kProtected;
    case ProtectionState::kDegraded:
      return PrimaryState::kDegraded;
    case ProtectionState::kPaused:
      return PrimaryState::kPaused;
    case ProtectionState::kDeposed:
      return PrimaryState::kDeposed;
    case ProtectionState::kUnprotected:
    case ProtectionState::kPromoting:
    case ProtectionState::kPromoted:
      return PrimaryState::kUnprotected;
  }
  HAVEN_CHECK(false) << "no such state";
  return PrimaryState::kUnprotected;
}

RegisterStatus DescribeRegister(const RegisterClient& registers) {
  RegisterStatus status;
  if (!registers.known().has_value()) return status;
  const Register& value = *registers.known();
  status.known = true;
  status.term = value.term;
  status.owner = value.owner;
  status.mode = std::string(RegisterModeName(value.mode));
  status.session = value.session;
  status.running = value.running;
  return status;
}

}  // namespace haven
