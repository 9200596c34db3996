// SPDX-License-Identifier: Apache-2.0
#include "engine/control/listener_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "engine/base/fd.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// Between looks at sessions that have ended.
constexpr int kReapMs = 500;
// Between attempts to accept while the process has no descriptor left for it.
constexpr int kAcceptRetryMs = 100;

pid_t StartSession(const std::vector<std::string>& command, int connection) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  // A group of its own: a signal for the listener is none for the sessions. One that is meant for a
  // session ends it.
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (connection == kSessionFd) {
    fcntl(kSessionFd, F_SETFD, 0);
  } else if (dup2(connection, kSessionFd) < 0) {
    _exit(127);
  }
  execv(arguments[0], arguments.data());
  _exit(127);
}

void Reap(std::set<pid_t>* sessions) {
  for (auto session = sessions->begin(); session != sessions->end();) {
    int status = 0;
    if (waitpid(*session, &status, WNOHANG) == *session) {
      HAVEN_LOG(kInfo, "listener") << "session pid=" << *session << " ended, status "
                                   << (WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
      session = sessions->erase(session);
    } else {
      ++session;
    }
  }
}

}  // namespace

absl::Status RunListener(Transport& transport, const ListenerOptions& options, int stop_fd,
                         const std::function<void(const std::string& address)>& ready) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Listener> listener,
                         transport.Listen(options.address));
  ready(listener->address());
  std::set<pid_t> sessions;
  std::string last_trouble;
  for (;;) {
    Reap(&sessions);
    // A host that is full stops accepting: peers wait in the queue until a session ends.
    const bool full = sessions.size() >= options.max_sessions;
    std::array<pollfd, 2> fds = {{{stop_fd, POLLIN, 0}, {full ? -1 : listener->fd(), POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), kReapMs) < 0 && errno != EINTR) {
      return absl::InternalError(std::strerror(errno));
    }
    if (fds[0].revents != 0) {
      Reap(&sessions);
      return absl::OkStatus();
    }
    if (fds[1].revents == 0) continue;
    const absl::StatusOr<std::optional<int>> accepted = listener->Accept();
    const std::string trouble(accepted.status().message());
    if (std::exchange(last_trouble, trouble) != trouble && !accepted.ok()) {
      HAVEN_LOG(kWarning, "listener") << trouble << "; trying again until it can be done";
    }
    if (!accepted.ok()) {
      poll(fds.data(), 1, kAcceptRetryMs);
      continue;
    }
    if (!accepted->has_value()) continue;
    const UniqueFd connection(**accepted);
    const pid_t pid = StartSession(options.session_command, connection.get());
    if (pid < 0) {
      HAVEN_LOG(kError, "listener") << "can not start a session: " << std::strerror(errno);
      continue;
    }
    sessions.insert(pid);
    HAVEN_LOG(kInfo, "listener") << "session pid=" << pid << " started";
  }
}

}  // namespace haven
