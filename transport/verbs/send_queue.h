// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_SEND_QUEUE_H_
#define HAVEN_TRANSPORT_VERBS_SEND_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "engine/base/check.h"
#include "transport/fabric.h"

namespace haven {

// What is posted on one queue pair and not known to be finished, in order, and which of it has to
// be signalled. A reliable connection finishes in order, so one signalled completion stands for
// all that was posted before it. Every call but the constructor is fit for the data path. One
// thread.
class SendQueue {
 public:
  // A completion is asked for at least this often, so that the queue is freed while a long list is
  // on its way, and so that progress can be seen long before a deadline.
  static constexpr uint32_t kSignalEvery = 32;
  static constexpr uint64_t kSignalBytes = uint64_t{4} << 20;

  struct Request {
    uint64_t id = 0;
    CompletionKind kind = CompletionKind::kWrite;
    bool wanted = false;  // The caller asked for a completion.
  };

  // `depth` at least 2 * kSignalEvery, so that at most half of a full queue is silent (checked).
  explicit SendQueue(uint32_t depth)
      : depth_(depth), requests_(std::make_unique<Request[]>(depth)) {
    HAVEN_CHECK_GE(depth, 2 * kSignalEvery);
  }

  uint32_t depth() const { return depth_; }
  uint32_t outstanding() const { return static_cast<uint32_t>(next_ - oldest_); }
  uint32_t room() const { return depth_ - outstanding(); }
  uint64_t next_sequence() const { return next_; }

  // Whether the next request, of so many bytes, is to be signalled.
  bool MustSignal(bool wanted, bool last_of_list, uint64_t bytes) const {
    return wanted || last_of_list || silent_ + 1 >= kSignalEvery ||
           silent_bytes_ + bytes >= kSignalBytes;
  }

  // Returns the sequence number under which its completion will come. There is room (checked).
  uint64_t Push(const Request& request, bool signaled, uint64_t bytes) {
    HAVEN_CHECK_GT(room(), 0u);
    silent_ = signaled ? 0 : silent_ + 1;
    silent_bytes_ = signaled ? 0 : silent_bytes_ + bytes;
    requests_[next_ % depth_] = request;
    return next_++;
  }

  // Takes back what was pushed from `sequence` on: the device did not accept it.
  void Unpush(uint64_t sequence) {
    HAVEN_CHECK(sequence >= oldest_ && sequence <= next_);
    next_ = sequence;
  }

  // The request of `sequence` is finished, and all before it. Nullopt: no such request is
  // outstanding.
  std::optional<Request> Finish(uint64_t sequence) {
    if (sequence < oldest_ || sequence >= next_) return std::nullopt;
    oldest_ = sequence + 1;
    return requests_[sequence % depth_];
  }

  // Takes the oldest request that is outstanding, finished or not; nullopt if there is none.
  std::optional<Request> TakeOldest() {
    if (oldest_ == next_) return std::nullopt;
    return requests_[oldest_++ % depth_];
  }

 private:
  const uint32_t depth_;
  const std::unique_ptr<Request[]> requests_;
  uint64_t oldest_ = 0;
  uint64_t next_ = 0;
  // Since the last signalled request.
  uint32_t silent_ = 0;
  uint64_t silent_bytes_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_SEND_QUEUE_H_
