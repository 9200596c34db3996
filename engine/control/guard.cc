// SPDX-License-Identifier: Apache-2.0
//
// The engine's start, watch and end. What becomes of the copy without it: guard_copy.cc.
#include "engine/control/guard.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// An engine that lived for less than this is not started again at once.
constexpr int64_t kYoungNs = 2 * kNsPerSecond;
// A killed engine is dead by then, unless it is stuck in the kernel.
constexpr int64_t kDeathNs = 2 * kNsPerSecond;
// Between looks at an engine that has not vouched for itself yet.
constexpr int64_t kFirstWordNs = 100 * kNsPerMs;

bool Readable(int fd) {
  pollfd one = {fd, POLLIN, 0};
  return poll(&one, 1, 0) > 0;
}

int64_t Now() { return SystemClock::Get().NowNs(); }

}  // namespace

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
    HAVEN_ASSIGN_OR_RETURN(
        next, next == Next::kEngine ? RunEngine() : Recover(next == Next::kRecoverDeposed));
  }
  return end_;
}

absl::Status Guard::SavePhase(GroupPhase phase) {
  if (record_.phase == phase) return absl::OkStatus();
  GroupRecord record = record_;
  record.phase = phase;
  HAVEN_RETURN_IF_ERROR(directory_.Save(record));
  record_ = std::move(record);
  return absl::OkStatus();
}

bool Guard::Pause(int64_t ns) {
  pollfd stop = {stop_fd_, POLLIN, 0};
  if (poll(&stop, 1, static_cast<int>(ns / kNsPerMs)) > 0) stopped_ = true;
  return !stopped_;
}

absl::StatusOr<Guard::Next> Guard::RunEngine() {
  if (std::exchange(died_young_, false) && !Pause(options_.backoff_ns)) return Next::kEnd;
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<AlivePage> page, AlivePage::Create());
  const std::vector<std::string> extra = {
      "--directory", directory_.path(),
      "--group",     record_.group,
      "--register",  register_.has_value() ? FormatRegister(*register_) : "absent"};
  const int64_t started_ns = Now();
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<EngineChild> engine,
                         EngineChild::Start(options_.engine_command, extra, *page));
  HAVEN_LOG(kInfo, "guard") << "group=" << record_.group << " engine pid=" << engine->pid();
  if (!AwaitEngine(*engine, *page, started_ns)) return Next::kEnd;
  const int exit_code = engine->Wait();
  died_young_ = Now() - started_ns < kYoungNs;
  if (stopped_ && exit_code < 0) {
    ResumeOnTheWayOut();
    return Next::kEnd;
  }
  return AfterEngine(exit_code);
}

bool Guard::AwaitEngine(EngineChild& engine, const AlivePage& page, int64_t started_ns) {
  std::array<pollfd, 2> fds = {{{engine.fd(), POLLIN, 0}, {stop_fd_, POLLIN, 0}}};
  int64_t killed_ns = 0;
  bool told = false;
  while (!Readable(engine.fd())) {
    const int64_t now_ns = Now();
    if (!stopped_ && Readable(stop_fd_)) {
      stopped_ = true;
      fds[1].fd = -1;
      killed_ns = killed_ns == 0 ? now_ns : killed_ns;
      engine.Kill();
    }
    const int64_t vouched_ns = page.until_ns();
    const int64_t deadline_ns =
        vouched_ns == 0 ? started_ns + options_.start_ns : vouched_ns + options_.hang_ns;
    if (killed_ns == 0 && now_ns >= deadline_ns) {
      HAVEN_LOG(kError, "guard") << "group=" << record_.group << " the engine hangs: killing it";
      killed_ns = now_ns;
      engine.Kill();
    }
    if (killed_ns != 0 && now_ns >= killed_ns + kDeathNs) {
      if (!std::exchange(told, true)) {
        HAVEN_LOG(kError, "guard")
            << "group=" << record_.group << " the engine pid=" << engine.pid()
            << " was killed and does not die: it is stuck in the kernel, its storage or device "
               "hangs. Output stays as it is; nothing can be done before it is dead";
      }
      if (stopped_) return false;
    }
    const int64_t next_ns = killed_ns == 0 ? deadline_ns : killed_ns + kDeathNs;
    int64_t wait_ns = std::max(next_ns - now_ns, kNsPerMs);
    // The engine's first word brings the deadline nearer; every other one moves it on.
    if (vouched_ns == 0) wait_ns = std::min(wait_ns, kFirstWordNs);
    poll(fds.data(), fds.size(), static_cast<int>(wait_ns / kNsPerMs));
  }
  return true;
}

// A record that can not be read does not say that nothing is held. It is written anew, since the
// next engine needs it.
absl::Status Guard::ReloadRecord() {
  absl::StatusOr<GroupRecord> record = directory_.Load(record_.group);
  if (record.ok()) {
    record_ = *std::move(record);
    return absl::OkStatus();
  }
  HAVEN_LOG(kError, "guard") << "group=" << record_.group << " the record is written anew: "
                             << std::string(record.status().message());
  if (record_.phase == GroupPhase::kNew) record_.phase = GroupPhase::kProtecting;
  return directory_.Save(record_);
}

absl::StatusOr<Guard::Next> Guard::AfterEngine(int exit_code) {
  // How far the engine has come is in the record.
  HAVEN_RETURN_IF_ERROR(ReloadRecord());
  switch (exit_code) {
    case kEngineUnprotected:
    case kEngineGuestEnded:
      // The engine was granted `none`: from here on the end is finished by whichever guard.
      HAVEN_RETURN_IF_ERROR(SavePhase(GroupPhase::kEnding));
      return EndProtection(exit_code == kEngineGuestEnded ? GuardEnd::kGuestEnded
                                                          : GuardEnd::kUnprotected);
    case kEngineRefused:
    case kEngineDeposed:
      // Nobody has a copy of what was never protected: it is left alone. The recovery says who the
      // owner is.
      if (record_.phase == GroupPhase::kNew) return Next::kRecover;
      HAVEN_RETURN_IF_ERROR(SavePhase(GroupPhase::kDeposed));
      return Next::kRecoverDeposed;
    case kEngineUnable:
      if (record_.phase == GroupPhase::kNew) {
        HAVEN_RETURN_IF_ERROR(directory_.Remove(record_.group));
        return absl::FailedPreconditionError(absl::StrCat(
            "group ", record_.group, ": the engine could not begin; its message says why"));
      }
      break;
    case kEngineOutdated:
      break;
    default:
      HAVEN_LOG(kError, "guard") << "group=" << record_.group << " the engine died"
                                 << (exit_code < 0 ? " of a signal" : "")
                                 << ": output stays as it is until the arbiter answers";
  }
  return Next::kRecover;
}

}  // namespace haven
