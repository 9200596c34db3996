// SPDX-License-Identifier: Apache-2.0
//
// The processes of a listener's sessions, and of those who want one.
#ifndef HAVEN_ENGINE_CONTROL_SESSION_CHILDREN_H_
#define HAVEN_ENGINE_CONTROL_SESSION_CHILDREN_H_

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"

namespace haven {

// The descriptors at which a session's process finds its connection, and the listener's ear.
inline constexpr int kSessionFd = 3;
inline constexpr int kListenerFd = 4;

// Said by a session's process once its peer has proved who it is and what it wants. Once.
void TellListenerOfPeer();

struct ChildLimits {
  size_t processes = 64;
  // Of them, whose peer may be anybody: all together, and from one address.
  size_t strangers = 16;
  size_t strangers_per_address = 4;
  // A stranger's process that has not ended after this time is killed.
  absl::Duration stranger_time = absl::Seconds(20);
};

// Not thread-safe.
class SessionChildren {
 public:
  explicit SessionChildren(const ChildLimits& limits) : limits_(limits) {}
  SessionChildren(const SessionChildren&) = delete;
  SessionChildren& operator=(const SessionChildren&) = delete;

  // No other connection may be started now.
  bool full() const;

  // Starts `command` for an accepted connection. Aborted: too many strangers from that address;
  // otherwise no process or descriptor is left.
  absl::Status Start(const std::vector<std::string>& command, const UniqueFd& connection);

  // Takes note of what the processes have said and of those that have ended; kills strangers whose
  // time is over.
  void Look();

  // Appends what becomes readable when Look() has something that makes room.
  void Watch(std::vector<pollfd>& fds) const;

 private:
  struct Child {
    pid_t pid = 0;
    UniqueFd ear;         // Not valid: its peer is known.
    bool silent = false;  // It has closed its end.
    std::string address;
    int64_t deadline_ns = 0;
  };

  size_t strangers() const;
  void TurnAway(const std::string& address);

  const ChildLimits limits_;
  std::vector<Child> children_;
  uint64_t turned_away_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SESSION_CHILDREN_H_
