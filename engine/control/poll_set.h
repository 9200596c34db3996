// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_POLL_SET_H_
#define HAVEN_ENGINE_CONTROL_POLL_SET_H_

#include <sys/epoll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// A set of descriptors of which some may become readable (epoll(7), level-triggered). One system
// call a wait. Not thread-safe.
class PollSet {
 public:
  // ResourceExhausted: no descriptor left.
  static absl::StatusOr<PollSet> Create();

  // `fd` is not in the set and stays open while it is. ResourceExhausted: the limit of watched
  // descriptors is reached; InvalidArgument: it can not be watched.
  absl::Status Add(int fd);
  // Before `fd` is closed. A descriptor that is not in the set is fine.
  void Remove(int fd);

  // Waits until one is readable or has hung up, or the system's monotonic clock has reached
  // `until_ns` (a time that has passed: does not wait). Interrupted by signals: returns early. True
  // if a descriptor was the reason.
  bool WaitUntil(int64_t until_ns);

  // Whether the last wait has found this descriptor readable. It may miss one if there are more
  // than kMostReady; the next wait finds it.
  bool WasReady(int fd) const;

  // Readable when one of the set is: for a set within a set. Not to be read.
  int fd() const { return epoll_.get(); }

 private:
  static constexpr size_t kMostReady = 16;

  explicit PollSet(UniqueFd epoll) : epoll_(std::move(epoll)) {}

  UniqueFd epoll_;
  std::array<epoll_event, kMostReady> ready_ = {};
  size_t ready_count_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_POLL_SET_H_
