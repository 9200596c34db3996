// SPDX-License-Identifier: Apache-2.0
#include "xen/base/toolstack.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

constexpr size_t kOutputMax = size_t{1} << 20;
// Of what a failed command said.
constexpr size_t kSaidMax = 600;
// A killed command is dead by then, unless it is stuck in the kernel.
constexpr int64_t kDeathNs = 5 * kNsPerSecond;
constexpr int kLookMs = 10;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "make a pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// A process group of its own, so that what it starts can be killed with it; and the signals as they
// are by default, since ours blocks some, which the toolstack's own children need.
absl::StatusOr<pid_t> Spawn(std::vector<std::string> argv, int out, int err) {
  std::vector<char*> words;
  for (std::string& word : argv) words.push_back(word.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(
      &attributes,
      static_cast<short>(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, words[0], &actions, &attributes, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("start ", argv[0]));
  return pid;
}

// Appends what is there; false at the end of file.
bool Drain(int fd, std::string& text) {
  std::array<char, 4096> buffer;
  const ssize_t bytes = read(fd, buffer.data(), buffer.size());
  if (bytes > 0) text.append(buffer.data(), static_cast<size_t>(bytes));
  return bytes > 0 || (bytes < 0 && errno == EINTR);
}

// Until both are closed (true), the deadline, or too much.
bool Collect(Pipe& out, Pipe& err, int64_t deadline_ns, std::string& printed, std::string& said) {
  while (out.read.valid() || err.read.valid()) {
    const int64_t left_ns = deadline_ns - SystemClock::Get().NowNs();
    if (left_ns <= 0 || printed.size() > kOutputMax || said.size() > kOutputMax) return false;
    std::array<pollfd, 2> ready = {pollfd{out.read.get(), POLLIN, 0},
                                   pollfd{err.read.get(), POLLIN, 0}};
    if (poll(ready.data(), ready.size(), static_cast<int>(left_ns / kNsPerMs) + 1) <= 0) continue;
    if (ready[0].revents != 0 && !Drain(out.read.get(), printed)) out.read.reset();
    if (ready[1].revents != 0 && !Drain(err.read.get(), said)) err.read.reset();
  }
  return true;
}

// Its status, or nothing if it does not die.
std::optional<int> Reap(pid_t pid, bool killed) {
  const int64_t deadline_ns = SystemClock::Get().NowNs() + kDeathNs;
  int status = 0;
  for (;;) {
    const pid_t reaped = waitpid(pid, &status, WNOHANG);
    if (reaped == pid) return status;
    if (reaped < 0 && errno != EINTR) return std::nullopt;
    // It has closed its output, and is about to end; or it does not.
    if (SystemClock::Get().NowNs() >= deadline_ns) {
      if (killed) return std::nullopt;
      kill(-pid, SIGKILL);
      return Reap(pid, true);
    }
    poll(nullptr, 0, kLookMs);
  }
}

}  // namespace

absl::StatusOr<std::string> RunXl(const std::vector<std::string>& words, absl::Duration timeout) {
  std::vector<std::string> argv = {"xl"};
  argv.insert(argv.end(), words.begin(), words.end());
  const std::string command = absl::StrJoin(argv, " ");
  HAVEN_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  HAVEN_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  HAVEN_ASSIGN_OR_RETURN(const pid_t pid, Spawn(argv, out.write.get(), err.write.get()));
  out.write.reset();
  err.write.reset();
  std::string printed;
  std::string said;
  const bool whole = Collect(
      out, err, SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(timeout), printed, said);
  if (!whole) kill(-pid, SIGKILL);
  const std::optional<int> end = Reap(pid, !whole);
  if (printed.size() > kOutputMax || said.size() > kOutputMax) {
    return absl::ResourceExhaustedError(absl::StrCat("`", command, "` prints too much"));
  }
  if (!whole || !end.has_value()) {
    return absl::DeadlineExceededError(absl::StrCat(
        "`", command, "` did not end within ", absl::FormatDuration(timeout), " and was killed",
        end.has_value() ? "" : ", but does not die: it is stuck in the kernel"));
  }
  const int status = *end;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return printed;
  const std::string tail = said.substr(said.size() - std::min(said.size(), kSaidMax));
  return absl::InternalError(
      absl::StrCat("`", command, "` ", WIFEXITED(status) ? "ended with " : "was killed by signal ",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), ": ",
                   absl::StripSuffix(tail, "\n")));
}

}  // namespace haven
