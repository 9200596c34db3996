// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "xen/output/plug_output.h"

namespace haven {

// The guests are stopped: what they have sent is in the current plug, or on its way there. A packet
// that a processor carries past the old redirection right now belongs to this epoch as well.
absl::Status PlugOutput::Barrier() {
  const size_t next = After(current_);
  if (state_ != State::kHolding || finished_ || !closed_[next] || !unknown_.ok()) {
    return Refuse("Barrier");
  }
  const int error = channel_.Transact(redirect_to_[next]);
  if (error != 0) return Broken(error, "Barrier");
  current_ = next;
  finished_ = true;
  finished_since_ns_ = running_since_ns_;
  running_since_ns_ = clock_.NowNs();
  return absl::OkStatus();
}

// The plug that was released before, an epoch ago, is closed with the same datagram: it is the one
// that the next barrier points at.
absl::Status PlugOutput::ReleaseOne() {
  if (state_ != State::kHolding || !unknown_.ok()) return Refuse("ReleaseOne");
  if (!finished_) return absl::OkStatus();
  if (taken_over_) return ReleaseTakenOver();
  const size_t done = Before(current_);
  const int unordered = KeepOrder(Before(done));
  if (unordered != 0) return Broken(unordered, "ReleaseOne");
  const int error = channel_.Transact(close_before_and_open_[done]);
  if (error != 0) return Broken(error, "ReleaseOne");
  closed_[Before(done)] = true;
  closed_[done] = false;
  finished_ = false;
  counters_.last_held_ns = clock_.NowNs() - finished_since_ns_;
  counters_.longest_held_ns = std::max(counters_.longest_held_ns, counters_.last_held_ns);
  return absl::OkStatus();
}

int PlugOutput::AskPassage(size_t queue) {
  passage_ = PassageAnswer();
  return channel_.Transact(ask_passage_[queue], note_passage_);
}

int PlugOutput::KeepOrder(size_t queue) {
  if (closed_[queue]) return 0;
  const int64_t deadline_ns = clock_.NowNs() + spec_.order_ns;
  for (;;) {
    const int unasked = AskPassage(queue);
    if (unasked != 0 || passage_.inside_packets == 0) return unasked;
    if (clock_.NowNs() > deadline_ns) {
      ++counters_.overtaken;
      return 0;
    }
    PauseBetweenLooks();
    const int unopened = channel_.Transact(open_[queue]);
    if (unopened != 0) return unopened;
  }
}

void PlugOutput::PauseBetweenLooks() {
  const timespec wait = {.tv_sec = 0, .tv_nsec = 200 * kNsPerUs};
  ppoll(nullptr, 0, &wait, nullptr);
}

}  // namespace haven
