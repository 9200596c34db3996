// SPDX-License-Identifier: Apache-2.0
#include "engine/control/engine_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/log.h"

namespace haven {

namespace {

constexpr size_t kPageSize = 4096;
// A killed process is dead by then.
constexpr int kDeathMs = 1000;

absl::Status SystemError(absl::string_view what) {
  const int error = errno;
  return absl::ResourceExhaustedError(absl::StrCat(what, ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<AlivePage>> AlivePage::Map(UniqueFd fd) {
  void* page = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return SystemError("can not map the engine's page");
  static_assert(std::atomic<int64_t>::is_always_lock_free);
  auto* word = static_cast<std::atomic<int64_t>*>(page);
  return std::unique_ptr<AlivePage>(new AlivePage(std::move(fd), word));
}

absl::StatusOr<std::unique_ptr<AlivePage>> AlivePage::Create() {
  UniqueFd fd(memfd_create("haven-alive", MFD_CLOEXEC));
  if (!fd.valid() || ftruncate(fd.get(), kPageSize) != 0) {
    return SystemError("can not make the engine's page");
  }
  return Map(std::move(fd));
}

absl::StatusOr<std::unique_ptr<AlivePage>> AlivePage::Adopt(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0 || info.st_size != static_cast<off_t>(kPageSize)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "descriptor ", fd, " is no page of a guard: engines are started by `haven-engine guard`"));
  }
  return Map(UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 10)));
}

AlivePage::~AlivePage() { munmap(word_, kPageSize); }

absl::StatusOr<std::unique_ptr<EngineChild>> EngineChild::Start(
    const std::vector<std::string>& command, const std::vector<std::string>& extra,
    const AlivePage& page) {
  std::vector<char*> arguments;
  for (const auto* part : {&command, &extra}) {
    for (const std::string& word : *part) arguments.push_back(const_cast<char*>(word.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return SystemError("can not start the engine");
  if (pid == 0) {
    // Only calls that are safe after a fork of a process with threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    if (page.fd() == kAliveFd) {
      fcntl(kAliveFd, F_SETFD, 0);
    } else if (dup2(page.fd(), kAliveFd) < 0) {
      _exit(127);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  auto child = std::unique_ptr<EngineChild>(new EngineChild(pid, std::move(pidfd)));
  if (!child->pidfd_.valid()) return SystemError("can not watch the engine");
  return child;
}

EngineChild::~EngineChild() {
  if (waited_) return;
  Kill();
  pollfd dead = {pidfd_.get(), POLLIN, 0};
  int found = 0;
  do {
    found = poll(&dead, 1, kDeathMs);
  } while (found < 0 && errno == EINTR);
  if (found > 0 || !pidfd_.valid()) {
    Wait();
  } else {
    HAVEN_LOG(kError, "guard") << "the engine pid=" << pid_
                               << " was killed and does not die: it is stuck in the kernel";
  }
}

void EngineChild::Kill() {
  if (!waited_) kill(pid_, SIGKILL);
}

int EngineChild::Wait() {
  HAVEN_CHECK(!waited_);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0) HAVEN_CHECK_EQ(errno, EINTR);
  waited_ = true;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace haven
