// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/membership/arbiter_factory.h"

namespace haven {

int ExitOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return kExitRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnreachable;
    default:
      return kExitFailed;
  }
}

OptionSpec DirectoryOption() {
  return {"directory", "DIR", "/run/haven-engine", "where this node keeps its files"};
}

std::vector<std::string> SelfCommand(const std::string& subcommand) {
  return {"/proc/self/exe", subcommand};
}

absl::StatusOr<int> StopSignalFd() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  signal(SIGPIPE, SIG_IGN);
  if (sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) {
    return absl::InternalError(std::strerror(errno));
  }
  const int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return absl::ResourceExhaustedError(std::strerror(errno));
  return fd;
}

absl::StatusOr<int> RunGuard(const GroupDirectory& directory, const std::string& group) {
  HAVEN_ASSIGN_OR_RETURN(const UniqueFd lock, directory.Lock(group));
  HAVEN_ASSIGN_OR_RETURN(const GroupRecord record, directory.Load(group));
  HAVEN_ASSIGN_OR_RETURN(const int stop_fd, StopSignalFd());
  const UniqueFd stop(stop_fd);
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Arbiter> arbiter, MakeArbiter(record.arbiter));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ThreadArbiterPort> port,
                         ThreadArbiterPort::Create(std::move(arbiter), group, absl::Seconds(1)));
  GuardOptions options;
  options.engine_command = SelfCommand("engine");
  Guard guard(
      std::move(options), directory, record,
      [&directory](const GroupRecord& of) { return AttachNodeGuests(directory, of); },
      std::move(port), stop.get());
  HAVEN_ASSIGN_OR_RETURN(const GuardEnd end, guard.Run());
  switch (end) {
    case GuardEnd::kUnprotected:
    case GuardEnd::kGuestEnded:
    case GuardEnd::kStopped:
      return kExitOk;
    case GuardEnd::kDestroyed:
      HAVEN_LOG(kWarning, "guard")
          << "group=" << group << " was promoted elsewhere; the copy here is destroyed";
      return kExitDeposed;
    case GuardEnd::kRefused:
      return kExitRefused;
  }
  return kExitFailed;
}

}  // namespace haven
