// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/toolstack_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/check.h"
#include "xen/backup/text_tail.h"

namespace haven {
namespace {

absl::Status Failed(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// posix_spawn's argument objects. Their calls fail for lack of memory or by wrong use only.
class SpawnPlan {
 public:
  SpawnPlan() {
    Check(posix_spawn_file_actions_init(&actions_));
    Check(posix_spawnattr_init(&attributes_));
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
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  void SetDescriptor(int theirs, const UniqueFd& ours) {
    Check(posix_spawn_file_actions_adddup2(&actions_, ours.get(), theirs));
  }

  // 0 or an errno.
  int Spawn(std::vector<std::string>& command, pid_t* pid) const {
    std::vector<char*> arguments;
    for (std::string& argument : command) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    return posix_spawnp(pid, arguments[0], &actions_, &attributes_, arguments.data(), environ);
  }

 private:
  static void Check(int error) { HAVEN_CHECK_EQ(error, 0); }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// A descriptor below 3, which this process may have got if it was started without its standard
// ones, would be overwritten by the child's.
UniqueFd Above2(UniqueFd fd) { return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

absl::Status MakePipe(UniqueFd& read_end, UniqueFd& write_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Failed("pipe");
  read_end = Above2(UniqueFd(ends[0]));
  write_end = Above2(UniqueFd(ends[1]));
  if (!read_end || !write_end) return Failed("pipe");
  return absl::OkStatus();
}

// Only our ends: the child's would be the same open file for all who have inherited it.
void SetNonBlocking(const UniqueFd& fd) {
  HAVEN_CHECK_EQ(fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK), 0);
}

// Waits for `events` (or the other end's end). False: the limit has passed.
bool Await(const UniqueFd& fd, short events, const TimeLimit& limit) {
  for (;;) {
    pollfd entry = {fd.get(), events, 0};
    const int ready = poll(&entry, 1, limit.PollMs());
    if (ready > 0) return true;
    if (ready == 0 && limit.Passed()) return false;
    HAVEN_CHECK(ready == 0 || errno == EINTR || errno == ENOMEM) << std::strerror(errno);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ToolstackChild>> ToolstackChild::Start(
    std::vector<std::string> command) {
  HAVEN_CHECK(!command.empty());
  const std::string name = absl::StrJoin(command, " ");
  UniqueFd their_stdin;
  UniqueFd their_stdout;
  UniqueFd our_stdin;
  UniqueFd our_stdout;
  absl::Status made = MakePipe(their_stdin, our_stdin);
  if (made.ok()) made = MakePipe(our_stdout, their_stdout);
  if (!made.ok()) return made;
  UniqueFd messages = Above2(UniqueFd(memfd_create("toolstack-messages", MFD_CLOEXEC)));
  if (!messages) return Failed("memfd_create");
  // What several processes write must not overwrite one another's.
  HAVEN_CHECK_EQ(fcntl(messages.get(), F_SETFL, O_APPEND), 0);
  SpawnPlan plan;
  plan.SetDescriptor(0, their_stdin);
  plan.SetDescriptor(1, their_stdout);
  plan.SetDescriptor(2, messages);
  // It also reports a failure before it destroys its copy, and gives that up if nobody can read the
  // report. With an end of its own its words go into the pipe whoever is dead. Last: what is dup'ed
  // before must not be overwritten.
  plan.SetDescriptor(3, our_stdout);
  pid_t pid = 0;
  errno = plan.Spawn(command, &pid);
  if (errno != 0) return Failed(absl::StrCat("`", name, "` can not be started"));
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  HAVEN_CHECK(pidfd.valid()) << std::strerror(errno);
  std::unique_ptr<ToolstackChild> child(new ToolstackChild(name, pid, std::move(pidfd)));
  SetNonBlocking(our_stdin);
  SetNonBlocking(our_stdout);
  child->stdin_ = std::move(our_stdin);
  child->stdout_ = std::move(our_stdout);
  child->messages_ = std::move(messages);
  return child;
}

ToolstackChild::~ToolstackChild() {
  if (exit_.has_value()) return;
  Kill().IgnoreError();
  // One that is stuck in the kernel is left to its fate.
  Wait(TimeLimit(absl::Seconds(1))).IgnoreError();
}

absl::Status ToolstackChild::Write(std::span<const std::byte> bytes, const TimeLimit& limit) {
  while (!bytes.empty()) {
    const ssize_t written = write(stdin_.get(), bytes.data(), bytes.size());
    if (written > 0) {
      bytes = bytes.subspan(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      if (!Await(stdin_, POLLOUT, limit)) {
        return absl::DeadlineExceededError(absl::StrCat("`", name_, "` has stopped reading"));
      }
    } else if (errno != EINTR) {
      return Failed(absl::StrCat("`", name_, "` does not read any more"));
    }
  }
  return absl::OkStatus();
}

absl::Status ToolstackChild::Expect(absl::string_view words, const TimeLimit& limit) {
  std::string said(words.size(), '\0');
  size_t have = 0;
  while (have < words.size()) {
    const ssize_t got = read(stdout_.get(), said.data() + have, words.size() - have);
    if (got == 0) return absl::UnavailableError(absl::StrCat("`", name_, "` has ended"));
    if (got > 0) {
      have += static_cast<size_t>(got);
      if (absl::string_view(said).substr(0, have) == words.substr(0, have)) continue;
      return absl::InvalidArgumentError(absl::StrCat("`", name_, "` says \"",
                                                     Printable(said.substr(0, have)),
                                                     "\" instead of \"", Printable(words), "\""));
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return Failed(absl::StrCat("read from `", name_, "`"));
    if (!Await(stdout_, POLLIN, limit)) {
      return absl::DeadlineExceededError(absl::StrCat("`", name_, "` says nothing"));
    }
  }
  return absl::OkStatus();
}

absl::Status ToolstackChild::Kill() {
  if (exit_.has_value()) return absl::OkStatus();
  // By the descriptor: never another process that got the number.
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) == 0 || errno == ESRCH) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("kill `", name_, "`: ", std::strerror(errno)));
}

bool ToolstackChild::Ended() {
  const TimeLimit at_once(absl::ZeroDuration());
  return exit_.has_value() || (Await(pidfd_, POLLIN, at_once) && Wait(at_once).ok());
}

absl::StatusOr<int> ToolstackChild::Wait(const TimeLimit& limit) {
  if (exit_.has_value()) return *exit_;
  if (!Await(pidfd_, POLLIN, limit)) {
    return absl::DeadlineExceededError(absl::StrCat("`", name_, "` does not end"));
  }
  siginfo_t info = {};
  int waited;
  do {
    waited = waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED);
  } while (waited != 0 && errno == EINTR);
  // Whoever else reaps children may have been first; what it ended with is then not known.
  if (waited != 0) {
    exit_ = 255;
  } else {
    exit_ = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  }
  return *exit_;
}

std::string ToolstackChild::Messages() const { return TextTail(messages_, kMessageBytes); }

}  // namespace haven
