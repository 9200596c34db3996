// SPDX-License-Identifier: Apache-2.0
#include "engine/control/poll_set.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

absl::Status NoDescriptor(const char* what) {
  return absl::ResourceExhaustedError(absl::StrCat("no ", what,
                                                   " to be had: ", std::strerror(errno),
                                                   "; raise the limit of open files (ulimit -n)"));
}

}  // namespace

absl::StatusOr<PollSet> PollSet::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return NoDescriptor("epoll descriptor");
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return NoDescriptor("timer descriptor");
  PollSet set(std::move(epoll), std::move(timer));
  HAVEN_RETURN_IF_ERROR(set.Add(set.timer_.get()));
  return set;
}

absl::Status PollSet::Add(int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  if (errno == ENOSPC || errno == ENOMEM) return NoDescriptor("watch of a descriptor");
  return absl::InvalidArgumentError(
      absl::StrCat("descriptor ", fd, " can not be watched: ", std::strerror(errno)));
}

void PollSet::Remove(int fd) {
  epoll_event unused = {};
  const bool removed = epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, &unused) == 0;
  HAVEN_CHECK(removed || errno == ENOENT || errno == EBADF) << "errno " << errno;
}

// The timer is armed anew only for another time, and an expiry that was seen is taken back by
// arming: so most waits cost one system call.
bool PollSet::WaitUntil(int64_t until_ns) {
  const bool wait = until_ns > SystemClock::Get().NowNs();
  if (wait && until_ns != armed_ns_) {
    itimerspec setting = {};
    setting.it_value.tv_sec = until_ns / kNsPerSecond;
    setting.it_value.tv_nsec = until_ns % kNsPerSecond;
    HAVEN_CHECK_EQ(timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &setting, nullptr), 0);
    armed_ns_ = until_ns;
  }
  epoll_event ready[8];
  const int count = epoll_wait(epoll_.get(), ready, 8, wait ? -1 : 0);
  HAVEN_CHECK(count >= 0 || errno == EINTR) << "errno " << errno;
  bool found = false;
  for (int i = 0; i < count; ++i) {
    if (ready[i].data.fd != timer_.get()) {
      found = true;
      continue;
    }
    // Expired: make it unreadable until it is armed again.
    const itimerspec off = {};
    HAVEN_CHECK_EQ(timerfd_settime(timer_.get(), 0, &off, nullptr), 0);
    armed_ns_ = 0;
  }
  return found;
}

}  // namespace haven
