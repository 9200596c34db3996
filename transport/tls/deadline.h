// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_DEADLINE_H_
#define HAVEN_TRANSPORT_TLS_DEADLINE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace haven {

// A moment of the system's monotonic clock until which a call of several steps may wait. A value
// type.
class NetDeadline {
 public:
  // From now on; zero and negative mean "do not wait", infinite is cut to a day.
  explicit NetDeadline(absl::Duration timeout);

  bool Passed() const { return Remaining() <= absl::ZeroDuration(); }
  // Negative once it has passed.
  absl::Duration Remaining() const;
  // For poll(2) and librdmacm, rounded up so that waiting ends after the deadline, not before.
  // Never negative.
  int RemainingMs() const;
  // The sooner of this one and `most` from now.
  NetDeadline AtMost(absl::Duration most) const;

 private:
  int64_t end_ns_;
};

// Waits until `fd` shows one of `events` (poll(2)), has hung up or has failed. False: the deadline
// came first. Internal: poll itself failed.
absl::StatusOr<bool> WaitForFd(int fd, short events, const NetDeadline& deadline);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_DEADLINE_H_
