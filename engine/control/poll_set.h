// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_POLL_SET_H_
#define HAVEN_ENGINE_CONTROL_POLL_SET_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// A set of descriptors of which some may become readable (epoll(7), level-triggered), with a timer.
// Not thread-safe.
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

  // Readable when one of the set is: for a set within a set. Not to be read.
  int fd() const { return epoll_.get(); }

 private:
  PollSet(UniqueFd epoll, UniqueFd timer) : epoll_(std::move(epoll)), timer_(std::move(timer)) {}

  UniqueFd epoll_;
  UniqueFd timer_;
  int64_t armed_ns_ = 0;  // What the timer is set to; 0: not set.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_POLL_SET_H_
