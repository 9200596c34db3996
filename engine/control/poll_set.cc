// SPDX-License-Identifier: Apache-2.0
#include "engine/control/poll_set.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"

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
  return PollSet(std::move(epoll));
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

bool PollSet::WaitUntil(int64_t until_ns) {
  const int64_t left_ns = std::max<int64_t>(until_ns - SystemClock::Get().NowNs(), 0);
  const timespec timeout = {.tv_sec = left_ns / kNsPerSecond, .tv_nsec = left_ns % kNsPerSecond};
  const int count =
      epoll_pwait2(epoll_.get(), ready_.data(), static_cast<int>(ready_.size()), &timeout, nullptr);
  HAVEN_CHECK(count >= 0 || errno == EINTR) << "errno " << errno;
  ready_count_ = static_cast<size_t>(std::max(count, 0));
  return ready_count_ > 0;
}

bool PollSet::WasReady(int fd) const {
  return std::any_of(ready_.begin(), ready_.begin() + static_cast<ptrdiff_t>(ready_count_),
                     [fd](const epoll_event& one) { return one.data.fd == fd; });
}

}  // namespace haven
