// SPDX-License-Identifier: Apache-2.0
#include "engine/control/listener_loop.h"

#include <poll.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/fd.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// Between looks at sessions that have ended.
constexpr int kLookMs = 500;
// Between attempts to accept while the process has no descriptor left for it.
constexpr int kAcceptRetryMs = 100;

}  // namespace

absl::Status RunListener(Transport& transport, const ListenerOptions& options, int stop_fd,
                         const std::function<void(const std::string& address)>& ready) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Listener> listener,
                         transport.Listen(options.address));
  ready(listener->address());
  ChildLimits limits = options.limits;
  limits.processes = options.max_sessions;
  SessionChildren children(limits);
  std::string last_trouble;
  std::string last_warning;
  for (;;) {
    children.Look();
    const std::string warning = options.warning ? options.warning() : "";
    if (std::exchange(last_warning, warning) != warning && !warning.empty()) {
      HAVEN_LOG(kWarning, "listener") << warning;
    }
    // A host that is full stops accepting: peers wait in the queue until there is room.
    std::vector<pollfd> fds = {{stop_fd, POLLIN, 0},
                               {children.full() ? -1 : listener->fd(), POLLIN, 0}};
    children.Watch(fds);
    if (poll(fds.data(), fds.size(), kLookMs) < 0 && errno != EINTR) {
      return absl::InternalError(std::strerror(errno));
    }
    if (fds[0].revents != 0) {
      children.Look();
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
    const absl::Status started = children.Start(options.session_command, connection);
    if (!started.ok() && !absl::IsAborted(started)) {
      HAVEN_LOG(kError, "listener") << "can not start a session: " << started;
    }
  }
}

}  // namespace haven
