// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/deadline.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/clock.h"

namespace haven {

NetDeadline::NetDeadline(absl::Duration timeout)
    : end_ns_(SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(std::clamp(
                                               timeout, absl::ZeroDuration(), absl::Hours(24)))) {}

absl::Duration NetDeadline::Remaining() const {
  return absl::Nanoseconds(end_ns_ - SystemClock::Get().NowNs());
}

int NetDeadline::RemainingMs() const {
  const absl::Duration rest = std::max(Remaining(), absl::ZeroDuration());
  return static_cast<int>(absl::ToInt64Milliseconds(rest + absl::Nanoseconds(999'999)));
}

NetDeadline NetDeadline::AtMost(absl::Duration most) const {
  return NetDeadline(std::min(Remaining(), most));
}

absl::StatusOr<bool> WaitForFd(int fd, short events, const NetDeadline& deadline) {
  pollfd entry = {.fd = fd, .events = events, .revents = 0};
  for (;;) {
    const int ready = poll(&entry, 1, deadline.RemainingMs());
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
    if (deadline.Passed()) return false;
  }
}

}  // namespace haven
