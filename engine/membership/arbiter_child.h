// SPDX-License-Identifier: Apache-2.0
//
// Runs a program to its end or to a deadline, with bounded input and output.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_CHILD_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_CHILD_H_

#include <sys/types.h>

#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter_deadline.h"

namespace haven {

// How a run ended.
struct ChildResult {
  enum class End { kExited, kSignaled, kTimedOut, kTooMuchOutput };
  End end = End::kExited;
  int code = 0;             // kExited: the exit code. kSignaled: the signal. Otherwise 0.
  std::string output;       // All of stdout; with kTooMuchOutput the first bytes.
  std::string diagnostics;  // The first kDiagnosticsBytes of stderr.
};

// Starts programs without a shell, each in a process group of its own that is killed as a whole
// when the run ends in whatever way. A child gets stdin, stdout and stderr and no other descriptor,
// the environment of this process, and default signal handling.
//
// The process must leave SIGCHLD at its default and must not wait for children it did not start.
// Thread-safe.
class ChildRunner {
 public:
  static constexpr size_t kInputBytes = 4096;  // What fits into an empty pipe in any case.
  static constexpr size_t kOutputBytes = 4096;
  static constexpr size_t kDiagnosticsBytes = 1024;
  // How long a killed process may take to go; after that it is left to be reaped later.
  static constexpr absl::Duration kKillGrace = absl::Seconds(1);
  // Unkillable processes (stuck in the kernel) at which no further one is started.
  static constexpr size_t kUnreapedLimit = 8;

  ChildRunner() = default;
  ~ChildRunner();
  ChildRunner(const ChildRunner&) = delete;
  ChildRunner& operator=(const ChildRunner&) = delete;

  // Runs `arguments[0]`, a path, with `input` on its stdin, followed by end-of-file. Returns by
  // `deadline` plus kKillGrace. After an error nothing was run, or it was killed, or how it ended
  // is not known: InvalidArgument for an input of more than kInputBytes, ResourceExhausted at
  // kUnreapedLimit, else those of pipe(2), posix_spawn(3), pidfd_open(2) and waitpid(2).
  absl::StatusOr<ChildResult> Run(const std::vector<std::string>& arguments,
                                  const std::string& input, const Deadline& deadline);

 private:
  absl::Status RefuseIfTooManyUnreaped();
  absl::Status Reap(pid_t pid, int pidfd, ChildResult& result);
  void ReapLater(pid_t pid);

  std::mutex mutex_;
  std::vector<pid_t> unreaped_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_CHILD_H_
