// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_CANCEL_H_
#define HAVEN_ENGINE_CONTROL_CANCEL_H_

#include <atomic>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/status_macros.h"
#include "engine/control/wake_fd.h"

namespace haven {

// Tells a thread that nobody wants its result any more. Shared by the two; set once, for ever.
// Thread-safe.
class Cancel {
 public:
  // Errors of WakeFd::Create.
  static absl::StatusOr<std::shared_ptr<Cancel>> Create() {
    HAVEN_ASSIGN_OR_RETURN(WakeFd wake, WakeFd::Create());
    return std::shared_ptr<Cancel>(new Cancel(std::move(wake)));
  }

  void Set() {
    set_.store(true, std::memory_order_release);
    wake_.Signal();
  }
  bool is_set() const { return set_.load(std::memory_order_acquire); }
  // Readable once set.
  int fd() const { return wake_.fd(); }

 private:
  explicit Cancel(WakeFd wake) : wake_(std::move(wake)) {}

  std::atomic<bool> set_{false};
  const WakeFd wake_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_CANCEL_H_
