// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

absl::Status LostExitStatus(pid_t pid, int error) {
  return absl::ErrnoToStatus(
      error, absl::StrCat("the exit status of process ", pid,
                          " was lost: SIGCHLD is ignored, or somebody else waited for it"));
}

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

// Descriptors above the standard ones, also in a process that has closed those: the child's file
// actions put them onto 0, 1 and 2 one after the other, and none may be overwritten before its
// turn.
absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "make a pipe");
  Pipe made{UniqueFd(ends[0]), UniqueFd(ends[1])};
  for (UniqueFd* end : {&made.read_end, &made.write_end}) {
    if (end->get() > STDERR_FILENO) continue;
    end->reset(fcntl(end->get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!*end) return absl::ErrnoToStatus(errno, "make a pipe");
  }
  return made;
}

// The program's end of each pipe as its standard descriptor, everything else closed.
absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& arguments, int in, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  HAVEN_CHECK_EQ(posix_spawn_file_actions_init(&actions), 0);
  HAVEN_CHECK_EQ(posix_spawnattr_init(&attributes), 0);
  const absl::Cleanup destroy = [&] {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  };
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  int error = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  if (error == 0) error = posix_spawnattr_setpgroup(&attributes, 0);
  if (error == 0) error = posix_spawnattr_setsigmask(&attributes, &none);
  if (error == 0) error = posix_spawnattr_setsigdefault(&attributes, &all);
  if (error == 0) {
    error = posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  if (error == 0) error = posix_spawn(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("start ", arguments[0]));
  return pid;
}

// Reads what is there. False at end-of-file; bytes beyond `limit` are dropped and `overflow` is
// set.
bool Drain(int fd, size_t limit, std::string& text, bool& overflow) {
  std::array<char, 1024> piece;
  for (;;) {
    const ssize_t got = read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    const size_t kept = std::min(static_cast<size_t>(got), limit - text.size());
    text.append(piece.data(), kept);
    if (kept < static_cast<size_t>(got)) {
      overflow = true;
      return true;
    }
  }
}

// Collects output until the program ends, says too much or is out of time. Its end is seen at the
// process, not at the pipes: a background process it leaves behind may hold those for ever.
ChildResult Collect(int pidfd, int out, int err, const Deadline& deadline) {
  ChildResult result;
  bool too_much = false;
  bool diagnostics_cut = false;
  std::array<pollfd, 3> fds = {pollfd{pidfd, POLLIN, 0}, pollfd{out, POLLIN, 0},
                               pollfd{err, POLLIN, 0}};
  for (;;) {
    const int ready = poll(fds.data(), fds.size(), deadline.RemainingPollMs());
    const bool ended = ready > 0 && fds[0].revents != 0;
    if (fds[1].fd >= 0 && !Drain(out, ChildRunner::kOutputBytes, result.output, too_much)) {
      fds[1].fd = -1;
    }
    if (fds[2].fd >= 0 &&
        !Drain(err, ChildRunner::kDiagnosticsBytes, result.diagnostics, diagnostics_cut)) {
      fds[2].fd = -1;
    }
    if (too_much) {
      result.end = ChildResult::End::kTooMuchOutput;
      return result;
    }
    if (ended) return result;
    if (deadline.Passed()) {
      result.end = ChildResult::End::kTimedOut;
      return result;
    }
  }
}

}  // namespace

ChildRunner::~ChildRunner() {
  for (const pid_t pid : unreaped_) waitpid(pid, nullptr, WNOHANG);
}

absl::Status ChildRunner::RefuseIfTooManyUnreaped() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(unreaped_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
  if (unreaped_.size() < kUnreapedLimit) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(unreaped_.size(),
                   " earlier runs were killed and are still stuck in the kernel (the oldest is "
                   "process ",
                   unreaped_.front(), "): no further one is started until they are gone"));
}

void ChildRunner::ReapLater(pid_t pid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  unreaped_.push_back(pid);
}

absl::Status ChildRunner::Reap(pid_t pid, int pidfd, ChildResult& result) {
  // Before the leader is reaped, so that its group's number can not have been given away.
  kill(-pid, SIGKILL);
  pollfd ended = {pidfd, POLLIN, 0};
  const Deadline grace(kKillGrace);
  while (poll(&ended, 1, grace.RemainingPollMs()) <= 0 && !grace.Passed()) {
  }
  int status = 0;
  const pid_t reaped = waitpid(pid, &status, WNOHANG);
  if (reaped == 0) {
    HAVEN_CHECK(result.end != ChildResult::End::kExited) << "process " << pid << " has not ended";
    ReapLater(pid);
    return absl::OkStatus();
  }
  if (reaped != pid) {
    return LostExitStatus(pid, errno);
  }
  if (result.end != ChildResult::End::kExited) return absl::OkStatus();
  if (WIFSIGNALED(status)) result.end = ChildResult::End::kSignaled;
  result.code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
  return absl::OkStatus();
}

absl::StatusOr<ChildResult> ChildRunner::Run(const std::vector<std::string>& arguments,
                                             const std::string& input, const Deadline& deadline) {
  if (input.size() > kInputBytes) {
    return absl::InvalidArgumentError(absl::StrCat("input of ", input.size(), " bytes for ",
                                                   arguments[0], ": more than ", kInputBytes));
  }
  HAVEN_RETURN_IF_ERROR(RefuseIfTooManyUnreaped());
  HAVEN_ASSIGN_OR_RETURN(Pipe in, MakePipe());
  HAVEN_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  HAVEN_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  // All input is in the pipe before anybody reads: no write can block or meet a closed pipe.
  if (!input.empty() &&
      write(in.write_end.get(), input.data(), input.size()) != static_cast<ssize_t>(input.size())) {
    return absl::ErrnoToStatus(errno, "fill a pipe");
  }
  in.write_end.reset();
  for (const UniqueFd* end : {&out.read_end, &err.read_end}) {
    if (fcntl(end->get(), F_SETFL, O_NONBLOCK) != 0) return absl::ErrnoToStatus(errno, "fcntl");
  }
  HAVEN_ASSIGN_OR_RETURN(const pid_t pid, Spawn(arguments, in.read_end.get(), out.write_end.get(),
                                                err.write_end.get()));
  in.read_end.reset();
  out.write_end.reset();
  err.write_end.reset();
  // Not through glibc: the header of 2.36 declares pidfd_open for C only.
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    // A process that is gone already was waited for by somebody else.
    const absl::Status error =
        errno == ESRCH ? LostExitStatus(pid, errno)
                       : absl::ErrnoToStatus(errno, absl::StrCat("watch ", arguments[0]));
    kill(-pid, SIGKILL);
    ReapLater(pid);
    return error;
  }
  ChildResult result = Collect(pidfd.get(), out.read_end.get(), err.read_end.get(), deadline);
  HAVEN_RETURN_IF_ERROR(Reap(pid, pidfd.get(), result));
  return result;
}

}  // namespace haven
