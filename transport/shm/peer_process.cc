// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/peer_process.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "transport/shm/deadline.h"

namespace haven {
namespace {

// The C library's wrappers can not be linked from C++ before glibc 2.37: its header lacks extern
// "C".
int OpenPidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

int SendSignal(int pidfd, int signal) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

}  // namespace

PeerProcess::PeerProcess(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

absl::StatusOr<std::shared_ptr<const PeerProcess>> PeerProcess::Open(pid_t pid) {
  UniqueFd pidfd(OpenPidfd(pid));
  if (!pidfd) {
    const int error = errno;
    if (error == ESRCH) {
      return absl::UnavailableError(absl::StrCat("the peer, pid ", pid, ", is gone"));
    }
    if (error == EMFILE || error == ENFILE) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "pidfd_open: no more descriptors (", std::strerror(error), "); raise RLIMIT_NOFILE"));
    }
    return absl::ErrnoToStatus(error, absl::StrCat("pidfd_open of the peer, pid ", pid));
  }
  if (SendSignal(pidfd.get(), 0) != 0 && errno == EPERM) {
    return absl::PermissionDeniedError(
        absl::StrCat("this process may not kill its peer, pid ", pid,
                     ", so the peer could never be cut off; run both as the same user"));
  }
  return std::shared_ptr<const PeerProcess>(new PeerProcess(pid, std::move(pidfd)));
}

bool PeerProcess::IsDead() const { return (PollNow(pidfd_.get(), POLLIN) & POLLIN) != 0; }

absl::Status PeerProcess::Kill(absl::Duration timeout) const {
  if (pid_ == getpid()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "both ends of this connection are in process ", pid_, "; it can not cut itself off"));
  }
  // ESRCH: dead and already reaped by its parent.
  if (SendSignal(pidfd_.get(), SIGKILL) != 0 && errno != ESRCH) {
    return absl::ErrnoToStatus(errno, absl::StrCat("kill of the peer, pid ", pid_));
  }
  HAVEN_ASSIGN_OR_RETURN(const bool dead, WaitForFd(pidfd_.get(), POLLIN, ShmDeadline(timeout)));
  if (!dead) {
    return absl::DeadlineExceededError(absl::StrCat(
        "the peer, pid ", pid_, ", was killed but is not dead after ",
        absl::FormatDuration(timeout),
        "; it may hang in the kernel or be frozen by its control group: look at its state in "
        "/proc and cut its host off by other means"));
  }
  return absl::OkStatus();
}

}  // namespace haven
