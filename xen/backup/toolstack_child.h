// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_TOOLSTACK_CHILD_H_
#define HAVEN_XEN_BACKUP_TOOLSTACK_CHILD_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"
#include "engine/control/time_limit.h"

namespace haven {

// A command of the toolstack as a child in a session of its own, so that no signal of ours reaches
// it. We hold the only writing end of its stdin: when this process dies, however it does, the child
// reads end-of-file. What it writes to its stdout then is read by nobody and fails nothing, as it
// has a reading end of its own. Its messages go to memory that outlives neither of us. SIGPIPE is
// ignored in this process. One thread.
class ToolstackChild {
 public:
  // Unavailable: the command can not be started.
  static absl::StatusOr<std::unique_ptr<ToolstackChild>> Start(std::vector<std::string> command);
  // Kills it unless it has ended.
  ~ToolstackChild();
  ToolstackChild(const ToolstackChild&) = delete;
  ToolstackChild& operator=(const ToolstackChild&) = delete;

  // Writes all of `bytes` to its stdin. Unavailable: it does not read any more; DeadlineExceeded.
  absl::Status Write(std::span<const std::byte> bytes, const TimeLimit& limit);

  // Reads exactly this from its stdout. Unavailable: it ended instead; InvalidArgument: it said
  // something else; DeadlineExceeded.
  absl::Status Expect(absl::string_view words, const TimeLimit& limit);

  // It reads end-of-file from now on.
  void CloseStdin() { stdin_.reset(); }

  // Sends it SIGKILL. After OK it executes nothing of its own any more, even if it is not dead yet
  // (Wait() tells when): whatever system call it is in, it does not come back from it. Also OK if
  // it has ended already. Internal: the kernel refused.
  absl::Status Kill();

  // Whether it has ended. Does not block, nor allocate while it has not.
  bool Ended();

  // Waits for its end; then its exit code, or 128 and the signal's number. DeadlineExceeded.
  absl::StatusOr<int> Wait(const TimeLimit& limit);

  // The end of what it has written to stderr, printable, its lines joined by "; ". At most
  // kMessageBytes.
  static constexpr size_t kMessageBytes = 600;
  std::string Messages() const;

  pid_t pid() const { return pid_; }

 private:
  ToolstackChild(std::string name, pid_t pid, UniqueFd pidfd)
      : name_(std::move(name)), pid_(pid), pidfd_(std::move(pidfd)) {}

  const std::string name_;
  const pid_t pid_;
  const UniqueFd pidfd_;
  UniqueFd stdin_;
  UniqueFd stdout_;
  UniqueFd messages_;
  std::optional<int> exit_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_TOOLSTACK_CHILD_H_
