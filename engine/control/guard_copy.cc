// SPDX-License-Identifier: Apache-2.0
//
// What the guard does with the copy on this host while there is no engine.
#include <poll.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/guard.h"

namespace haven {

namespace {

// Between attempts at a guest that a dead engine still has: its hold ends a moment after it.
constexpr int64_t kAttachRetryNs = 20 * kNsPerMs;
// Between looks at guests that may still answer to what a dead engine has asked them.
constexpr int64_t kLookNs = 50 * kNsPerMs;

int64_t Now() { return SystemClock::Get().NowNs(); }

// Whether none stands, nor may still stop, though nobody wants it: the look itself lets them go on.
bool AllRun(const GuestSet& guests) {
  bool all = true;
  for (const auto& suspend : guests.suspends) {
    all &= suspend->Poll() != SuspendMethod::State::kSuspended;
  }
  return all;
}

// Those that have not run yet, since their promotion was broken off.
absl::Status LetRun(const GuestSet& guests) {
  absl::Status status;
  for (const auto& domain : guests.domains) {
    const absl::Status ran = domain->LetRun();
    // One that is gone is not named any more at the next attempt.
    if (!absl::IsUnavailable(ran)) status.Update(ran);
  }
  return status;
}

// What may be otherwise at the next attempt to attach. Internal, too: errors of the hypervisor and
// the kernel that have no other name, while guests may stand still.
bool MayPass(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsUnavailable(status) ||
         absl::IsDeadlineExceeded(status) || absl::IsResourceExhausted(status) ||
         absl::IsAborted(status) || absl::IsInternal(status);
}

}  // namespace

std::string OwnedElsewhere(const Register& value) {
  return absl::StrCat(value.mode == RegisterMode::kNone
                          ? "it is not protected there any more. `protect --take-over` takes its "
                            "name if its guests have moved here or are gone"
                          : "unprotect it there",
                      ", or choose another name for the group");
}

// Does what a Recovery decides to the guests of this host.
class Guard::Keeper final : public RecoveryActions {
 public:
  // `before_destroy`: what has to be done, and to succeed, before anything is destroyed.
  Keeper(GuestSet& guests, const std::string& group, std::function<absl::Status()> before_destroy)
      : guests_(guests), group_(group), before_destroy_(std::move(before_destroy)) {}

  void ResumeGuests() override {
    for (const auto& suspend : guests_.suspends) Note("resume", suspend->Resume());
  }
  void StopGuests() override {
    for (const auto& suspend : guests_.suspends) Note("stop", suspend->Request());
  }
  void DestroyGuests() override {
    absl::Status status = before_destroy_();
    if (status.ok()) {
      for (const auto& domain : guests_.domains) status.Update(domain->Destroy());
    }
    // Only when nobody sends any more: what is held goes with the buffer.
    if (status.ok()) status = guests_.output->Discard();
    Note("destroy", status);
    destroyed_ = status;
  }
  void Report(const char* cause) override {
    HAVEN_LOG(kInfo, "guard") << "group=" << group_ << " " << cause;
  }

  // The answer to DestroyGuests, once.
  std::optional<absl::Status> TakeDestroyed() { return std::exchange(destroyed_, std::nullopt); }

 private:
  // Some of it is tried again and again.
  void Note(const char* what, const absl::Status& status) {
    if (status.ok()) return;
    std::string trouble = absl::StrCat("can not ", what, " a guest: ", status.message());
    if (trouble == trouble_) return;
    trouble_ = std::move(trouble);
    HAVEN_LOG(kWarning, "guard") << "group=" << group_ << " " << trouble_;
  }

  GuestSet& guests_;
  const std::string& group_;
  const std::function<absl::Status()> before_destroy_;
  std::optional<absl::Status> destroyed_;
  std::string trouble_;  // That was told last.
};

// Why the arbiter gives no answer. A group name that it does not take is no trouble that passes,
// and the one thing that is found out before anything is protected.
absl::Status Guard::NoteAnswer(const RegisterAnswer& answer) {
  const std::string cause(answer.verdict == Verdict::kUnknown ? answer.cause.message() : "");
  if (std::exchange(arbiter_trouble_, cause) != cause && !cause.empty()) {
    HAVEN_LOG(kWarning, "guard") << "group=" << record_.group << " no answer from "
                                 << arbiter_->name() << ": " << cause;
  }
  if (answer.verdict == Verdict::kUnknown && absl::IsInvalidArgument(answer.cause) &&
      record_.phase == GroupPhase::kNew) {
    HAVEN_RETURN_IF_ERROR(directory_.Remove(record_.group));
    return answer.cause;
  }
  return absl::OkStatus();
}

void Guard::NoteOutput(const absl::Status& status) {
  const std::string cause(status.message());
  if (std::exchange(output_trouble_, cause) == cause || status.ok()) return;
  HAVEN_LOG(kError, "guard") << "group=" << record_.group
                             << " the output can not be opened or given back yet, and is tried "
                                "again until it can: "
                             << cause;
}

void Guard::NoteAttach(const absl::Status& status) {
  const std::string cause(status.message());
  if (std::exchange(attach_trouble_, cause) == cause) return;
  HAVEN_LOG(kError, "guard") << "group=" << record_.group
                             << " a guest can not be taken hold of, and is tried again: " << cause
                             << ". Output stays as it is: end the process that has hold of the "
                                "guest, or the guest if it hangs";
}

void Guard::NoteEnded(const GuestSet& guests) {
  if (std::exchange(ended_guests_, guests.ended.size()) >= guests.ended.size()) return;
  HAVEN_LOG(kError, "guard") << "group=" << record_.group << " has lost guests, and its protection "
                             << "ends with the register's word: "
                             << absl::StrJoin(guests.ended, "; ");
}

// As soon as all guests that exist can be had, or with the error that will not pass, or with the
// last one when the guard is to stop.
absl::StatusOr<GuestSet> Guard::Attach() {
  const int64_t since_ns = Now();
  for (;;) {
    absl::StatusOr<GuestSet> guests = attach_(record_);
    if (!MayPass(guests.status())) {
      attach_trouble_.clear();
      if (guests.ok()) NoteEnded(*guests);
      return guests;
    }
    const bool lasts = Now() >= since_ns + options_.tell_ns;
    if (lasts) NoteAttach(guests.status());
    if (!Pause(lasts ? options_.retry_ns : kAttachRetryNs)) return guests;
  }
}

// The engine was killed because the guard stops, perhaps in the middle of an epoch: the guests run
// on, their output as it is.
void Guard::ResumeOnTheWayOut() {
  const int64_t deadline_ns = Now() + options_.stop_ns;
  absl::StatusOr<GuestSet> guests = attach_(record_);
  while (!guests.ok() && MayPass(guests.status()) && Now() < deadline_ns) {
    poll(nullptr, 0, static_cast<int>(kAttachRetryNs / kNsPerMs));
    guests = attach_(record_);
  }
  absl::Status status = guests.status();
  if (guests.ok()) {
    for (const auto& suspend : guests->suspends) status.Update(suspend->Resume());
    while (status.ok() && !AllRun(*guests)) {
      if (Now() >= deadline_ns) status = absl::DeadlineExceededError("it may not go on yet");
      poll(nullptr, 0, static_cast<int>(kLookNs / kNsPerMs));
    }
  }
  if (status.ok() || absl::IsNotFound(status)) return;
  HAVEN_LOG(kError, "guard") << "group=" << record_.group
                             << " a guest may stand still until the next guard: "
                             << std::string(status.message());
}

absl::StatusOr<Guard::Next> Guard::Recover(bool deposed) {
  absl::StatusOr<GuestSet> guests = Attach();
  if (stopped_) return Next::kEnd;
  if (absl::IsNotFound(guests.status())) return NothingLeft(guests.status());
  HAVEN_RETURN_IF_ERROR(guests.status());
  RecoveryConfig config;
  config.owner = record_.owner;
  config.is_new = record_.phase == GroupPhase::kNew;
  config.ending = record_.phase == GroupPhase::kEnding || !guests->ended.empty();
  config.whole = guests->ended.empty();
  Recovery::Outcome outcome = Recovery::Outcome::kNotYet;
  {
    Keeper keeper(*guests, record_.group, [this] { return SavePhase(GroupPhase::kDeposed); });
    Recovery recovery(config, keeper, *arbiter_, ids_);
    if (deposed) {
      recovery.StartDeposed(Now());
    } else {
      recovery.StartAfterCrash(Now());
    }
    HAVEN_RETURN_IF_ERROR(Drive(recovery, keeper, *guests));
    outcome = recovery.outcome();
    register_ = recovery.current();
  }
  switch (outcome) {
    case Recovery::Outcome::kNotYet:
      return Next::kEnd;
    case Recovery::Outcome::kAbsent:
      if (config.ending) return RemoveRecord(GuardEnd::kGuestEnded);
      return Next::kEngine;
    case Recovery::Outcome::kOpen:
      if (!config.ending) {
        // Deposed once, and the term was taken back: no guard after this one may stop the guests.
        if (record_.phase == GroupPhase::kDeposed) {
          HAVEN_RETURN_IF_ERROR(SavePhase(GroupPhase::kProtecting));
        }
        return OpenAndGoOn(*std::move(guests));
      }
      guests = GuestSet();
      if (record_.phase == GroupPhase::kEnding) return EndProtection(GuardEnd::kUnprotected);
      HAVEN_RETURN_IF_ERROR(SavePhase(GroupPhase::kEnding));
      return EndProtection(GuardEnd::kGuestEnded);
    case Recovery::Outcome::kDestroyed:
      return RemoveRecord(GuardEnd::kDestroyed);
    case Recovery::Outcome::kRefused:
      HAVEN_LOG(kError, "guard") << "group=" << record_.group << " belongs to "
                                 << FormatRegister(*register_) << ": "
                                 << OwnedElsewhere(*register_);
      return RemoveRecord(GuardEnd::kRefused);
  }
  return absl::InternalError("unreachable");
}

// Until it has an outcome, or the guard is to stop. A guest may answer late to what the dead engine
// has asked it, and must not stand until the arbiter answers.
absl::Status Guard::Drive(Recovery& recovery, Keeper& keeper, const GuestSet& guests) {
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  HAVEN_RETURN_IF_ERROR(poll.Add(arbiter_->fd()));
  HAVEN_RETURN_IF_ERROR(poll.Add(stop_fd_));
  while (recovery.outcome() == Recovery::Outcome::kNotYet) {
    const int64_t look_ns = AllRun(guests) ? kNever : Now() + kLookNs;
    if (!arbiter_->ready()) poll.WaitUntil(std::min(recovery.NextWakeNs(), look_ns));
    if (!Pause(0)) return absl::OkStatus();
    while (const auto answer = arbiter_->Next()) {
      HAVEN_RETURN_IF_ERROR(NoteAnswer(*answer));
      recovery.OnArbiterAnswer(*answer, Now());
    }
    recovery.OnTick(Now());
    if (recovery.state() == Recovery::State::kDeposed) {
      HAVEN_RETURN_IF_ERROR(SavePhase(GroupPhase::kDeposed));
    }
    if (const auto destroyed = keeper.TakeDestroyed()) {
      recovery.OnGuestsDestroyed(*destroyed, Now());
    }
  }
  return absl::OkStatus();
}

// No guest of the group is left here: nothing is held and nothing can run. The register stays as it
// is, so that a backup which may be promoted still may.
absl::StatusOr<Guard::Next> Guard::NothingLeft(const absl::Status& cause) {
  HAVEN_LOG(kError, "guard") << "group=" << record_.group
                             << " none of its guests exists here any more: "
                             << std::string(cause.message());
  return RemoveRecord(record_.phase == GroupPhase::kDeposed ? GuardEnd::kDestroyed
                                                            : GuardEnd::kGuestEnded);
}

absl::StatusOr<Guard::Next> Guard::RemoveRecord(GuardEnd end) {
  HAVEN_RETURN_IF_ERROR(directory_.Remove(record_.group));
  end_ = end;
  return Next::kEnd;
}

// The register says `solo` and that it is this copy's: output goes, and an engine looks for a
// backup. Guests that have ended meanwhile are a matter for the register again.
absl::StatusOr<Guard::Next> Guard::OpenAndGoOn(GuestSet guests) {
  for (;;) {
    absl::Status opened = LetRun(guests);
    if (opened.ok()) opened = guests.output->OpenAll();
    NoteOutput(opened);
    if (opened.ok()) return Next::kEngine;
    if (!Pause(options_.retry_ns)) return Next::kEnd;
    guests = GuestSet();
    absl::StatusOr<GuestSet> again = Attach();
    if (stopped_) return Next::kEnd;
    if (!again.ok() || !again->ended.empty()) return Next::kRecover;
    guests = *std::move(again);
  }
}

// Until all of them are certain to run on (a dead engine's request has been answered, or has been
// waited for long enough), or the guard is to stop: false.
bool Guard::AwaitGuests(const GuestSet& guests) {
  const int64_t since_ns = Now();
  bool told = false;
  while (!AllRun(guests)) {
    if (Now() >= since_ns + options_.tell_ns && !std::exchange(told, true)) {
      HAVEN_LOG(kInfo, "guard") << "group=" << record_.group
                                << " a guest may still answer to a dead engine's request to stop, "
                                   "and is watched until it runs for certain";
    }
    if (!Pause(kLookNs)) return false;
  }
  return true;
}

// The register says `none`: the guests run, the buffer goes away, and the record with it.
absl::StatusOr<Guard::Next> Guard::EndProtection(GuardEnd end) {
  for (;;) {
    absl::StatusOr<GuestSet> guests = Attach();
    if (stopped_) return Next::kEnd;
    if (absl::IsNotFound(guests.status())) return RemoveRecord(GuardEnd::kGuestEnded);
    HAVEN_RETURN_IF_ERROR(guests.status());
    absl::Status status;
    for (const auto& suspend : guests->suspends) {
      const absl::Status resumed = suspend->Resume();
      // One that is gone is not named any more at the next attempt.
      if (!absl::IsUnavailable(resumed)) status.Update(resumed);
    }
    if (status.ok()) status = LetRun(*guests);
    if (status.ok()) status = guests->output->OpenAll();
    if (status.ok()) status = guests->output->Remove();
    NoteOutput(status);
    if (status.ok() && !AwaitGuests(*guests)) return Next::kEnd;
    if (status.ok()) return RemoveRecord(guests->ended.empty() ? end : GuardEnd::kGuestEnded);
    if (!Pause(options_.retry_ns)) return Next::kEnd;
  }
}

}  // namespace haven
