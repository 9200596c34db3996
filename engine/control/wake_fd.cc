// SPDX-License-Identifier: Apache-2.0
#include "engine/control/wake_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {

absl::StatusOr<WakeFd> WakeFd::Create() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no eventfd to be had: ", std::strerror(errno),
                     "; raise the limit of open files (ulimit -n)"));
  }
  return WakeFd(std::move(fd));
}

// Fails with EAGAIN only when 2^64 - 2 signals are pending: it is readable then, which is all there
// is to say.
void WakeFd::Signal() const {
  const uint64_t one = 1;
  const ssize_t written = write(fd_.get(), &one, sizeof(one));
  HAVEN_CHECK(written == sizeof(one) || errno == EAGAIN) << "errno " << errno;
  raised_->store(true, std::memory_order_release);
}

void WakeFd::Clear() const {
  if (!raised_->exchange(false, std::memory_order_acq_rel)) return;
  uint64_t count = 0;
  const ssize_t got = read(fd_.get(), &count, sizeof(count));
  HAVEN_CHECK(got == sizeof(count) || errno == EAGAIN) << "errno " << errno;
}

}  // namespace haven
