// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/guest_main.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/control_message.h"
#include "engine/synthetic/guest_server.h"

namespace haven {
namespace {

constexpr char kUsage[] =
    "a synthetic guest is started by the engine: --spec=TEXT --runtime-dir=DIR --waiting=0|1, with "
    "a "
    "socket to the starter as descriptor 3";

absl::StatusOr<GuestServerOptions> ParseArguments(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (equals == std::string::npos ||
        !flags.emplace(argument.substr(0, equals), argument.substr(equals + 1)).second) {
      return absl::InvalidArgumentError(absl::StrCat("argument '", argument, "': ", kUsage));
    }
  }
  if (flags.size() != 3 || flags["--spec"].empty() || flags["--runtime-dir"].empty() ||
      (flags["--waiting"] != "0" && flags["--waiting"] != "1")) {
    return absl::InvalidArgumentError(kUsage);
  }
  GuestServerOptions options;
  HAVEN_ASSIGN_OR_RETURN(options.spec, ParseSyntheticSpec(flags["--spec"]));
  options.runtime_dir = flags["--runtime-dir"];
  options.waiting = flags["--waiting"] == "1";
  return options;
}

// Cuts the ties to the starter's process that launcher.cc could not cut.
absl::Status Detach() {
  // The guest survives whoever dies, and belongs to nobody's descriptors.
  if (prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0) return absl::ErrnoToStatus(errno, "prctl");
  if (close_range(kGuestStarterFd + 1, UINT_MAX, 0) != 0) {
    return absl::ErrnoToStatus(errno, "close inherited descriptors");
  }
  if (fcntl(kGuestStarterFd, F_SETFD, FD_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "set up descriptor 3");
  }
  umask(0077);
  signal(SIGPIPE, SIG_IGN);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<GuestServer>> MakeGuest(int argc, char** argv,
                                                       const UniqueFd& starter) {
  HAVEN_RETURN_IF_ERROR(Detach());
  HAVEN_ASSIGN_OR_RETURN(const GuestServerOptions options, ParseArguments(argc, argv));
  prctl(PR_SET_NAME, absl::StrCat("syn:", options.spec.name).c_str(), 0, 0, 0);
  return GuestServer::Create(options, starter);
}

}  // namespace

int SyntheticGuestMain(int argc, char** argv) {
  struct stat info {};
  if (fstat(kGuestStarterFd, &info) != 0 || !S_ISSOCK(info.st_mode)) {
    WriteLogLine(LogLevel::kError, "synthetic", kUsage);
    return 2;
  }
  // The starter waits for this process only; the guest becomes init's child.
  const pid_t child = fork();
  if (child != 0) _exit(child < 0 ? 1 : 0);
  UniqueFd starter(kGuestStarterFd);
  const absl::StatusOr<std::unique_ptr<GuestServer>> guest = MakeGuest(argc, argv, starter);
  if (guest.ok()) {
    starter.reset();
    (*guest)->Run();
    return 0;
  }
  GuestMessage message;
  message.op = GuestOp::kAttach;
  message.SetError(guest.status());
  // If the starter is gone as well, there is only the log.
  if (!SendGuestMessage(starter.get(), message).ok()) {
    WriteLogLine(LogLevel::kError, "synthetic", guest.status().message());
  }
  return 1;
}

}  // namespace haven
