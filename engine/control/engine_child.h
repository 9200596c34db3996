// SPDX-License-Identifier: Apache-2.0
//
// The engine as the guard's child: started, watched, killed.
#ifndef HAVEN_ENGINE_CONTROL_ENGINE_CHILD_H_
#define HAVEN_ENGINE_CONTROL_ENGINE_CHILD_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// How an engine's process ends if it ends by itself; anything else is a crash. Documented in
// docs/operations.md.
enum EngineExit : int {
  kEngineDeposed = 40,
  kEngineGuestEnded = 41,
  kEngineRefused = 42,
  kEngineUnable = 43,       // It could not begin: wrong options, no memory, no guest.
  kEngineUnprotected = 44,  // Opens the output for good: not 0, which comes by accident.
  kEngineOutdated = 45,     // A guest has other memory or devices: another engine goes on.
};

// A page that an engine shares with its guard: the time until which the engine vouches for itself.
// Lock-free; any thread of either process.
class AlivePage {
 public:
  // A new page. ResourceExhausted: no memory or descriptor.
  static absl::StatusOr<std::unique_ptr<AlivePage>> Create();
  // The page that a guard has handed down. InvalidArgument: `fd` is no such page.
  static absl::StatusOr<std::unique_ptr<AlivePage>> Adopt(int fd);
  ~AlivePage();

  int fd() const { return fd_.get(); }
  void SetUntilNs(int64_t ns) { word_->store(ns, std::memory_order_relaxed); }
  int64_t until_ns() const { return word_->load(std::memory_order_relaxed); }

 private:
  AlivePage(UniqueFd fd, std::atomic<int64_t>* word) : fd_(std::move(fd)), word_(word) {}
  static absl::StatusOr<std::unique_ptr<AlivePage>> Map(UniqueFd fd);

  const UniqueFd fd_;
  std::atomic<int64_t>* const word_;
};

// A child process that dies with its parent. One thread.
class EngineChild {
 public:
  // Starts `command` with `extra` arguments appended; the page is its descriptor kAliveFd.
  // ResourceExhausted, NotFound: the errors of fork(2) and execve(2).
  static absl::StatusOr<std::unique_ptr<EngineChild>> Start(const std::vector<std::string>& command,
                                                            const std::vector<std::string>& extra,
                                                            const AlivePage& page);
  // Kills it if it lives, and waits until it is dead, at most a second: one that is stuck in the
  // kernel is left to its fate.
  ~EngineChild();

  static constexpr int kAliveFd = 3;

  // Readable when it is dead.
  int fd() const { return pidfd_.get(); }
  pid_t pid() const { return pid_; }
  void Kill();
  // Its exit code, or -1 if a signal ended it. Blocks until it is dead; fd() tells when it does
  // not.
  int Wait();

 private:
  EngineChild(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  const pid_t pid_;
  const UniqueFd pidfd_;
  bool waited_ = false;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_ENGINE_CHILD_H_
