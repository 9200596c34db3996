// SPDX-License-Identifier: Apache-2.0
#include "engine/control/guard.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// An engine that lived for less than this is not started again at once.
constexpr int64_t kYoungNs = 2 * kNsPerSecond;

bool Readable(int fd) {
  pollfd one = {fd, POLLIN, 0};
  return poll(&one, 1, 0) > 0;
}

int64_t Now() { return SystemClock::Get().NowNs(); }

}  // namespace

// Does what a Recovery decides to the guests of this host.
class Guard::Keeper final : public RecoveryActions {
 public:
  Keeper(GuestSet& guests, const std::string& group) : guests_(guests), group_(group) {}

  void ResumeGuests() override {
    for (const auto& suspend : guests_.suspends) Note("resume", suspend->Resume());
  }
  void StopGuests() override {
    for (const auto& suspend : guests_.suspends) Note("stop", suspend->Request());
  }
  void DestroyGuests() override {
    absl::Status status;
    for (const auto& domain : guests_.domains) status.Update(domain->Destroy());
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
  void Note(const char* what, const absl::Status& status) {
    if (status.ok()) return;
    HAVEN_LOG(kWarning, "guard") << "group=" << group_ << " can not " << what
                                 << " a guest: " << std::string(status.message());
  }

  GuestSet& guests_;
  const std::string& group_;
  std::optional<absl::Status> destroyed_;
};

Guard::Guard(GuardOptions options, GroupDirectory directory, GroupRecord record,
             AttachGuests attach, std::unique_ptr<ThreadArbiterPort> arbiter, int stop_fd)
    : options_(std::move(options)),
      directory_(std::move(directory)),
      record_(std::move(record)),
      attach_(std::move(attach)),
      arbiter_(std::move(arbiter)),
      stop_fd_(stop_fd) {}

absl::StatusOr<GuardEnd> Guard::Run() {
  Next next = Next::kRecover;
  if (record_.phase == GroupPhase::kDeposed) next = Next::kRecoverDeposed;
  while (next != Next::kEnd && !stopped_) {
    absl::StatusOr<Next> step =
        next == Next::kEngine ? RunEngine() : Recover(next == Next::kRecoverDeposed);
    if (!step.ok()) return step.status();
    next = *step;
  }
  return stopped_ ? GuardEnd::kStopped : end_;
}

absl::Status Guard::SavePhase(GroupPhase phase) {
  if (record_.phase == phase) return absl::OkStatus();
  record_.phase = phase;
  return directory_.Save(record_);
}

// Waits, or until the guard is to stop: false.
bool Guard::Pause(int64_t ns) {
  pollfd stop = {stop_fd_, POLLIN, 0};
  if (poll(&stop, 1, static_cast<int>(ns / kNsPerMs)) > 0) stopped_ = true;
  return !stopped_;
}

absl::StatusOr<Guard::Next> Guard::RunEngine() {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<AlivePage> page, AlivePage::Create());
  const std::vector<std::string> extra = {
      "--directory", directory_.path(),
      "--group",     record_.group,
      "--register",  register_.has_value() ? FormatRegister(*register_) : "absent"};
  const int64_t started_ns = Now();
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<EngineChild> engine,
                         EngineChild::Start(options_.engine_command, extra, *page));
  HAVEN_LOG(kInfo, "guard") << "group=" << record_.group << " engine pid=" << engine->pid();
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  HAVEN_RETURN_IF_ERROR(poll.Add(engine->fd()));
  HAVEN_RETURN_IF_ERROR(poll.Add(stop_fd_));
  while (!Readable(engine->fd())) {
    if (Readable(stop_fd_)) {
      stopped_ = true;
      engine->Kill();
      break;
    }
    const int64_t vouched_ns = page->until_ns();
    const int64_t deadline_ns =
        vouched_ns == 0 ? started_ns + options_.start_ns : vouched_ns + options_.hang_ns;
    if (Now() >= deadline_ns) {
      HAVEN_LOG(kError, "guard") << "group=" << record_.group << " the engine hangs: killing it";
      engine->Kill();
      break;
    }
    poll.WaitUntil(std::min(deadline_ns, Now() + 100 * kNsPerMs));
  }
  return AfterEngine(engine->Wait(), Now() - started_ns < kYoungNs);
}

absl::StatusOr<Guard::Next> Guard::AfterEngine(int exit_code, bool died_young) {
  // What the engine has learnt of its last session is in the record.
  absl::StatusOr<GroupRecord> record = directory_.Load(record_.group);
  if (record.ok()) record_ = *std::move(record);
  switch (exit_code) {
    case kEngineUnprotected:
      HAVEN_RETURN_IF_ERROR(EndProtection(GuardEnd::kUnprotected));
      return Next::kEnd;
    case kEngineGuestEnded:
      HAVEN_RETURN_IF_ERROR(EndProtection(GuardEnd::kGuestEnded));
      return Next::kEnd;
    case kEngineRefused:
      if (record_.phase == GroupPhase::kNew) return Next::kRecover;  // It says who the owner is.
      [[fallthrough]];
    case kEngineDeposed:
      HAVEN_RETURN_IF_ERROR(SavePhase(GroupPhase::kDeposed));
      return Next::kRecoverDeposed;
    case kEngineUnable:
      if (record_.phase == GroupPhase::kNew) {
        HAVEN_RETURN_IF_ERROR(directory_.Remove(record_.group));
        return absl::FailedPreconditionError(absl::StrCat(
            "group ", record_.group, ": the engine could not begin; its message says why"));
      }
      break;
    default:
      HAVEN_LOG(kError, "guard") << "group=" << record_.group << " the engine died"
                                 << (exit_code < 0 ? " of a signal" : "")
                                 << ": output stays as it is until the arbiter answers";
  }
  if (died_young && !Pause(options_.backoff_ns)) return Next::kEnd;
  return Next::kRecover;
}

// Says once why the arbiter gives no answer, until it does.
void Guard::NoteAnswer(const RegisterAnswer& answer) {
  const std::string cause(answer.verdict == Verdict::kUnknown ? answer.cause.message() : "");
  if (cause == last_cause_) return;
  last_cause_ = cause;
  if (cause.empty()) return;
  HAVEN_LOG(kWarning, "guard") << "group=" << record_.group << " no answer from "
                               << arbiter_->name() << ": " << cause;
}

absl::StatusOr<GuestSet> Guard::Attach() {
  absl::StatusOr<GuestSet> guests = attach_(record_);
  // The dead engine's hold on a guest ends a moment after the engine.
  while (!guests.ok() && !absl::IsNotFound(guests.status()) && Pause(20 * kNsPerMs)) {
    guests = attach_(record_);
  }
  return guests;
}

absl::StatusOr<Guard::Next> Guard::Recover(bool deposed) {
  absl::StatusOr<GuestSet> guests = Attach();
  if (absl::IsNotFound(guests.status())) {
    HAVEN_LOG(kError, "guard") << "group=" << record_.group << " its guests are gone: "
                               << std::string(guests.status().message());
    end_ = GuardEnd::kGuestEnded;
    HAVEN_RETURN_IF_ERROR(directory_.Remove(record_.group));
    return Next::kEnd;
  }
  if (!guests.ok()) return guests.status();
  Keeper keeper(*guests, record_.group);
  RecoveryConfig config;
  config.owner = record_.owner;
  config.is_new = record_.phase == GroupPhase::kNew;
  Recovery recovery(config, keeper, *arbiter_, ids_);
  if (deposed) {
    recovery.StartDeposed(Now());
  } else {
    recovery.StartAfterCrash(Now());
  }
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  HAVEN_RETURN_IF_ERROR(poll.Add(arbiter_->fd()));
  HAVEN_RETURN_IF_ERROR(poll.Add(stop_fd_));
  while (recovery.outcome() == Recovery::Outcome::kNotYet) {
    if (!arbiter_->ready()) poll.WaitUntil(recovery.NextWakeNs());
    if (Readable(stop_fd_)) {
      stopped_ = true;
      return Next::kEnd;
    }
    while (const auto answer = arbiter_->Next()) {
      NoteAnswer(*answer);
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
  if (recovery.outcome() == Recovery::Outcome::kOpen) {
    return OpenAndGoOn(*guests, recovery.value());
  }
  if (recovery.outcome() == Recovery::Outcome::kAbsent) {
    register_.reset();
    return Next::kEngine;
  }
  end_ = GuardEnd::kDestroyed;
  if (recovery.outcome() == Recovery::Outcome::kRefused) {
    HAVEN_LOG(kError, "guard") << "group=" << record_.group << " belongs to "
                               << FormatRegister(*recovery.current())
                               << ": unprotect it there, or choose another group name";
    end_ = GuardEnd::kRefused;
  }
  HAVEN_RETURN_IF_ERROR(directory_.Remove(record_.group));
  return Next::kEnd;
}

// The register says `solo` and that it is this copy's: output goes, and an engine looks for a
// backup.
Guard::Next Guard::OpenAndGoOn(GuestSet& guests, const Register& value) {
  register_ = value;
  absl::Status opened = guests.output->OpenAll();
  while (!opened.ok()) {
    HAVEN_LOG(kWarning, "guard") << "group=" << record_.group
                                 << " the output can not be opened yet: "
                                 << std::string(opened.message());
    if (!Pause(100 * kNsPerMs)) return Next::kEnd;
    opened = guests.output->OpenAll();
  }
  return Next::kEngine;
}

// The register says `none`: the buffer goes away, and the record with it.
absl::Status Guard::EndProtection(GuardEnd end) {
  end_ = end;
  absl::StatusOr<GuestSet> guests = Attach();
  if (guests.ok()) {
    absl::Status status = guests->output->OpenAll();
    if (status.ok()) status = guests->output->Remove();
    if (!status.ok() && end != GuardEnd::kGuestEnded) return status;
  } else if (!absl::IsNotFound(guests.status())) {
    return guests.status();
  }
  return directory_.Remove(record_.group);
}

}  // namespace haven
