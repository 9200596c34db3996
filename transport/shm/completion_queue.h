// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_COMPLETION_QUEUE_H_
#define HAVEN_TRANSPORT_SHM_COMPLETION_QUEUE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/check.h"
#include "transport/fabric.h"

namespace haven {

// The finished requests of one link that Poll() has not returned yet, in order. One thread.
class CompletionQueue {
 public:
  // Most requests that may be posted and not polled; a power of two.
  static constexpr size_t kDepth = 1024;
  static_assert((kDepth & (kDepth - 1)) == 0);

  // How many more may be pushed.
  size_t room() const { return kDepth - (pushed_ - popped_); }

  void Push(const Completion& completion) {
    HAVEN_CHECK_GT(room(), 0u);
    ring_[pushed_++ % kDepth] = completion;
  }

  // Moves as many as fit to the front of `out`; returns how many.
  size_t PopInto(std::span<Completion> out) {
    size_t count = 0;
    while (count < out.size() && popped_ != pushed_) out[count++] = ring_[popped_++ % kDepth];
    return count;
  }

 private:
  std::array<Completion, kDepth> ring_;
  uint64_t pushed_ = 0;
  uint64_t popped_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_COMPLETION_QUEUE_H_
