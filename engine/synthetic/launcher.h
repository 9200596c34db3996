// SPDX-License-Identifier: Apache-2.0
//
// Starts synthetic guests.
#ifndef HAVEN_ENGINE_SYNTHETIC_LAUNCHER_H_
#define HAVEN_ENGINE_SYNTHETIC_LAUNCHER_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/synthetic/control_message.h"
#include "engine/synthetic/spec.h"

namespace haven {

// How a guest's process is made.
struct SyntheticLaunch {
  // The program and the arguments that make it call SyntheticGuestMain with what follows them:
  // {"/proc/self/exe", "synthetic-guest"}.
  std::vector<std::string> command;
  // An existing directory on this host. A guest is known by it and its name.
  std::string runtime_dir;
  // For everything until the guest is ready, filling its memory included.
  absl::Duration timeout = absl::Seconds(60);
};

// Starts a guest that runs, and returns its pid. The guest is nobody's child and in no session or
// process group of the caller: it goes on whoever dies. It keeps the caller's environment and
// control group (under a service manager the unit must not kill what is left in it). Its stderr is
// a file in the runtime directory. May be called while the caller has threads.
//
// AlreadyExists: there is a guest of that name. Unavailable: the process could not be started or
// ended before it was ready. DeadlineExceeded. Otherwise the guest's own error.
absl::StatusOr<pid_t> StartSyntheticGuest(const SyntheticLaunch& launch, const SyntheticSpec& spec);

// What a started process has said about itself.
struct StartedGuest {
  UniqueFd socket;
  GuestMessage ready;         // The reply to kAttach, checked to be no error.
  std::vector<UniqueFd> fds;  // That came with it.
};

// The same for a guest or for a copy that waits; the socket is the waiting copy's controlling one.
absl::StatusOr<StartedGuest> LaunchGuestProcess(const SyntheticLaunch& launch,
                                                const SyntheticSpec& spec, bool waiting);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_LAUNCHER_H_
