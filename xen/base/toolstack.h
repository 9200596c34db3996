// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_TOOLSTACK_H_
#define HAVEN_XEN_BASE_TOOLSTACK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace haven {

// Runs `xl WORDS...` to its end and returns what it printed. The toolstack is a program to us and
// no library: libxl wants the process' SIGCHLD and its event loop, and a fault in it must not be
// one of the engine. Not for the epoch path. Internal: it failed, with the end of what it said;
// DeadlineExceeded: it was killed; ResourceExhausted: it printed more than 1 Mi bytes.
absl::StatusOr<std::string> RunXl(const std::vector<std::string>& words, absl::Duration timeout);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_TOOLSTACK_H_
