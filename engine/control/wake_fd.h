// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_WAKE_FD_H_
#define HAVEN_ENGINE_CONTROL_WAKE_FD_H_

#include <atomic>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// Wakes a thread that waits in poll(2) or epoll(7): readable from Signal() to Clear(). Thread-safe;
// neither call blocks, and Clear() costs nothing while there is nothing to clear.
class WakeFd {
 public:
  // ResourceExhausted: no descriptor left.
  static absl::StatusOr<WakeFd> Create();

  void Signal() const;
  void Clear() const;
  int fd() const { return fd_.get(); }

 private:
  explicit WakeFd(UniqueFd fd)
      : fd_(std::move(fd)), raised_(std::make_unique<std::atomic<bool>>(false)) {}

  UniqueFd fd_;
  // Set after the descriptor is readable: then it is never left readable for good.
  std::unique_ptr<std::atomic<bool>> raised_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_WAKE_FD_H_
