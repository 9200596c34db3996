// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/deadline.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "absl/status/status.h"
#include "engine/base/clock.h"

namespace haven {

ShmDeadline::ShmDeadline(absl::Duration timeout)
    : end_ns_(SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(std::clamp(
                                               timeout, absl::ZeroDuration(), absl::Hours(24)))) {}

int64_t ShmDeadline::RemainingNs() const { return end_ns_ - SystemClock::Get().NowNs(); }

int ShmDeadline::PollTimeoutMs() const {
  const int64_t remaining_ns = std::max<int64_t>(RemainingNs(), 0);
  const int64_t ms = (remaining_ns + kNsPerMs - 1) / kNsPerMs;
  return static_cast<int>(std::min<int64_t>(ms, INT_MAX));
}

absl::StatusOr<bool> WaitForFd(int fd, short events, const ShmDeadline& deadline) {
  pollfd waited = {.fd = fd, .events = events, .revents = 0};
  for (;;) {
    const int ready = poll(&waited, 1, deadline.PollTimeoutMs());
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
    if (deadline.Passed()) return false;
  }
}

short PollNow(int fd, short events) {
  pollfd asked = {.fd = fd, .events = events, .revents = 0};
  return poll(&asked, 1, 0) < 0 ? static_cast<short>(POLLNVAL) : asked.revents;
}

}  // namespace haven
