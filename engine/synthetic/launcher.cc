// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/guest_main.h"
#include "engine/synthetic/guest_socket.h"
#include "engine/synthetic/wait_for.h"

namespace haven {
namespace {

// posix_spawn's two argument objects. Their calls fail for lack of memory or by wrong use only.
class SpawnPlan {
 public:
  SpawnPlan() {
    HAVEN_CHECK_EQ(posix_spawn_file_actions_init(&actions_), 0);
    HAVEN_CHECK_EQ(posix_spawnattr_init(&attributes_), 0);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  // Descriptor 3 is the socket, stdout and stderr go to `output`. The socket goes to its place
  // first, since the others would take it if the caller runs without standard descriptors.
  void SetDescriptors(const UniqueFd& socket, const std::string& output) {
    Check(posix_spawn_file_actions_adddup2(&actions_, socket.get(), kGuestStarterFd));
    Check(posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0));
    Check(posix_spawn_file_actions_addopen(&actions_, 1, output.c_str(),
                                           O_WRONLY | O_CREAT | O_APPEND, 0600));
    Check(posix_spawn_file_actions_adddup2(&actions_, 1, 2));
  }

  // A session of its own, no blocked and no ignored signals.
  void SetDetached() {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    Check(posix_spawnattr_setsigmask(&attributes_, &none));
    Check(posix_spawnattr_setsigdefault(&attributes_, &all));
    Check(posix_spawnattr_setflags(
        &attributes_,
        static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)));
  }

  absl::StatusOr<pid_t> Spawn(std::vector<std::string> command) const {
    std::vector<char*> arguments;
    for (std::string& argument : command) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    pid_t pid = 0;
    const int error =
        posix_spawn(&pid, arguments[0], &actions_, &attributes_, arguments.data(), environ);
    if (error != 0) {
      return absl::UnavailableError(absl::StrCat(absl::ErrnoToStatus(error, command[0]).message()));
    }
    return pid;
  }

 private:
  static void Check(int error) { HAVEN_CHECK_EQ(error, 0); }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// Ends the process that only forks the guest. It is its own end that matters; the guest's is seen
// on the socket. Whoever else reaps children may have been first.
void Reap(pid_t pid, bool kill_it) {
  if (kill_it) kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// Receives what the new process says of itself.
absl::StatusOr<StartedGuest> AwaitReady(UniqueFd socket, int64_t deadline_ns,
                                        const std::string& what) {
  if (!WaitReadable(socket.get(), deadline_ns)) {
    return absl::DeadlineExceededError(absl::StrCat(what, ": it was not ready in time"));
  }
  StartedGuest started;
  HAVEN_ASSIGN_OR_RETURN(const Received received,
                         ReceiveGuestMessage(socket.get(), started.ready, &started.fds));
  if (received != Received::kMessage) {
    return absl::UnavailableError(absl::StrCat(what, ": its process ended before it was ready"));
  }
  if (started.ready.code != absl::StatusCode::kOk) {
    return absl::Status(started.ready.code, started.ready.text());
  }
  started.socket = std::move(socket);
  return started;
}

}  // namespace

absl::StatusOr<StartedGuest> LaunchGuestProcess(const SyntheticLaunch& launch,
                                                const SyntheticSpec& spec, bool waiting) {
  if (launch.command.empty() || launch.runtime_dir.empty()) {
    return absl::InvalidArgumentError(
        "starting a synthetic guest takes a command and a runtime directory");
  }
  const int64_t deadline_ns = SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(launch.timeout);
  const std::string output = SyntheticStderrPath(launch.runtime_dir, spec.name);
  const std::string what =
      absl::StrCat("start synthetic guest ", spec.name, " (stderr in ", output, ")");
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
    return absl::ErrnoToStatus(errno, what);
  }
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);

  SpawnPlan plan;
  plan.SetDescriptors(theirs, output);
  plan.SetDetached();
  std::vector<std::string> command = launch.command;
  command.push_back(absl::StrCat("--spec=", FormatSyntheticSpec(spec)));
  command.push_back(absl::StrCat("--runtime-dir=", launch.runtime_dir));
  command.push_back(absl::StrCat("--waiting=", waiting ? 1 : 0));
  const absl::StatusOr<pid_t> pid = plan.Spawn(std::move(command));
  if (!pid.ok()) return absl::UnavailableError(absl::StrCat(what, ": ", pid.status().message()));
  theirs.reset();
  absl::StatusOr<StartedGuest> started = AwaitReady(std::move(ours), deadline_ns, what);
  Reap(*pid, !started.ok());
  return started;
}

absl::StatusOr<pid_t> StartSyntheticGuest(const SyntheticLaunch& launch,
                                          const SyntheticSpec& spec) {
  HAVEN_ASSIGN_OR_RETURN(const StartedGuest started, LaunchGuestProcess(launch, spec, false));
  return static_cast<pid_t>(started.ready.values[0]);
}

}  // namespace haven
