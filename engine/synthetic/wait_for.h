// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_WAIT_FOR_H_
#define HAVEN_ENGINE_SYNTHETIC_WAIT_FOR_H_

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace haven {

// Waits until `fd` is readable or closed by its peer. False: `deadline_ns` (Clock::NowNs) came
// first.
inline bool WaitReadable(int fd, int64_t deadline_ns) {
  while (true) {
    const int64_t left_ns = std::max<int64_t>(deadline_ns - SystemClock::Get().NowNs(), 0);
    const timespec left{static_cast<time_t>(left_ns / kNsPerSecond),
                        static_cast<long>(left_ns % kNsPerSecond)};
    pollfd entry{fd, POLLIN, 0};
    const int ready = ppoll(&entry, 1, &left, nullptr);
    if (ready > 0) return true;
    if (ready == 0) return false;
    HAVEN_CHECK_EQ(errno, EINTR) << "ppoll";
  }
}

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_WAIT_FOR_H_
