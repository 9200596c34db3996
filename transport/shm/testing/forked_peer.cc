// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/testing/forked_peer.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>

#include "engine/base/check.h"

namespace haven {

ForkedPeer::ForkedPeer(const std::function<int()>& body) : pid_(fork()) {
  HAVEN_CHECK_GE(pid_, 0) << "fork failed, errno " << errno;
  if (pid_ == 0) _exit(body());
}

ForkedPeer::~ForkedPeer() {
  if (reaped_) return;
  Kill(SIGKILL);
  Wait();
}

void ForkedPeer::Kill(int signal) const { HAVEN_CHECK_EQ(kill(pid_, signal), 0); }

int ForkedPeer::Wait() {
  HAVEN_CHECK(!reaped_);
  int status = 0;
  while (waitpid(pid_, &status, 0) != pid_) HAVEN_CHECK_EQ(errno, EINTR);
  reaped_ = true;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int CountOpenFds() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count - 1;  // The iterator's own.
}

}  // namespace haven
