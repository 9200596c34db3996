// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_DEADLINE_H_
#define HAVEN_TRANSPORT_SHM_DEADLINE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace haven {

// A moment of the monotonic clock until which a call may wait.
class ShmDeadline {
 public:
  // From now on; zero and negative mean "do not wait", infinite is cut to a day.
  explicit ShmDeadline(absl::Duration timeout);

  bool Passed() const { return RemainingNs() <= 0; }

  // For poll(2), rounded up so that waiting ends after the deadline, not before. Never negative.
  int PollTimeoutMs() const;

  absl::Duration Remaining() const { return absl::Nanoseconds(RemainingNs()); }

 private:
  int64_t RemainingNs() const;

  int64_t end_ns_;
};

// Waits until `fd` shows one of `events` (poll(2)) or has hung up. False: the deadline came first.
// Internal: poll itself failed.
absl::StatusOr<bool> WaitForFd(int fd, short events, const ShmDeadline& deadline);

// What is known about `fd` now, without waiting: revents of poll(2); POLLNVAL if it can not be
// asked.
short PollNow(int fd, short events);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_DEADLINE_H_
