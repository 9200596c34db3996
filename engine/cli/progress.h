// SPDX-License-Identifier: Apache-2.0
//
// How far the copy of the guests' memory has come, for somebody who waits in front of it.
#ifndef HAVEN_ENGINE_CLI_PROGRESS_H_
#define HAVEN_ENGINE_CLI_PROGRESS_H_

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/thread.h"
#include "engine/control/status.h"

namespace haven {

// One line without its newline; empty while nothing is being copied.
std::string SyncLine(const StatusSnapshot& snapshot);

enum class ProgressForm : uint8_t {
  kText,  // SyncLine().
  kJson,  // The whole status, as `status --json` has it.
};

// Follows a group's status file once a second and prints what has changed: one line after the
// other, or in place of each other if it is text on a terminal; at the end the state that came of
// it. A thread of its own until the object goes.
class SyncProgress {
 public:
  // ResourceExhausted: no thread can be started.
  static absl::StatusOr<std::unique_ptr<SyncProgress>> Start(std::string status_path,
                                                             ProgressForm form, FILE* out);
  ~SyncProgress();

 private:
  SyncProgress(std::string status_path, ProgressForm form, FILE* out);

  void Work();
  void Look();
  void Print(const std::string& line, bool last);

  const std::string path_;
  const ProgressForm form_;
  FILE* const out_;
  const bool terminal_;  // Lines may replace each other.
  std::string shown_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_PROGRESS_H_
