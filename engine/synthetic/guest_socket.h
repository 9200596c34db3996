// SPDX-License-Identifier: Apache-2.0
//
// Where a synthetic guest is found: DIR/synthetic-NAME.sock and its neighbours.
#ifndef HAVEN_ENGINE_SYNTHETIC_GUEST_SOCKET_H_
#define HAVEN_ENGINE_SYNTHETIC_GUEST_SOCKET_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// The control socket, what the guest's process wrote to stderr, and what a copy found out about
// itself (report.h).
std::string SyntheticSocketPath(const std::string& runtime_dir, const std::string& name);
std::string SyntheticStderrPath(const std::string& runtime_dir, const std::string& name);
std::string SyntheticReportPath(const std::string& runtime_dir, const std::string& name);

// Takes the name in that directory and listens; what a dead guest left behind is replaced.
// AlreadyExists: a guest of that name lives there. NotFound: no such directory.
absl::StatusOr<UniqueFd> ListenAsGuest(const std::string& runtime_dir, const std::string& name);

// NotFound: no guest of that name was started there. Unavailable: its process is dead.
// ResourceExhausted: it accepts no connections.
absl::StatusOr<UniqueFd> ConnectToGuest(const std::string& runtime_dir, const std::string& name);

// Removes what a guest has left behind if its process is dead: the socket, and the stderr file if
// nothing was written. Leaves everything to a living guest of that name.
void RemoveDeadGuestFiles(const std::string& runtime_dir, const std::string& name);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_GUEST_SOCKET_H_
