// SPDX-License-Identifier: Apache-2.0
//
// What a cable does to frames in one direction.
#ifndef HAVEN_TESTS_LAB_HUB_LINK_H_
#define HAVEN_TESTS_LAB_HUB_LINK_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/random.h"

namespace haven {

// The default is a perfect cable. Probabilities are from 0 to 1 and apply to each frame.
struct LinkRule {
  bool cut = false;               // Every frame is dropped.
  double loss = 0;                // Dropped.
  double corrupt = 0;             // One bit behind the Ethernet header is flipped.
  double duplicate = 0;           // Delivered twice.
  double reorder = 0;             // Held back for `reorder_us`, so that later frames overtake it.
  int64_t reorder_us = 0;         // Required with `reorder`.
  int64_t delay_us = 0;           // Added to the way of each frame.
  int64_t jitter_us = 0;          // A random delay up to this is added; the order is kept.
  int64_t rate_kbps = 0;          // 1000 bits per second; 0 is no limit.
  int64_t queue_bytes = 1 << 20;  // What may wait for the rate limit; more is dropped.
};

struct LinkCounters {
  int64_t frames = 0;  // Offered, as are `bytes`; all others are frames that met this fate.
  int64_t bytes = 0;
  int64_t cut = 0;
  int64_t lost = 0;
  int64_t overflowed = 0;
  int64_t corrupted = 0;
  int64_t duplicated = 0;
  int64_t reordered = 0;
};

// One direction between two ports. Not thread-safe.
class HubLink {
 public:
  struct Fate {
    bool dropped = false;
    bool corrupted = false;
    bool duplicated = false;
    int64_t due_ns = 0;  // When it arrives; not below the time it was offered.
  };

  const LinkRule& rule() const { return rule_; }
  const LinkCounters& counters() const { return counters_; }

  // Holds for frames offered from now on. Frames that are under way keep the time they were given,
  // but a frame offered later does not overtake them.
  void SetRule(const LinkRule& rule) { rule_ = rule; }

  // Decides about one frame offered at `now_ns`, which never goes back.
  Fate Offer(size_t bytes, int64_t now_ns, Random& random);

 private:
  // When a frame that is offered now has left the sender at the limited rate, or -1 if too much is
  // waiting already.
  int64_t SentNs(size_t bytes, int64_t now_ns);

  LinkRule rule_;
  LinkCounters counters_;
  int64_t busy_until_ns_ = 0;  // The rate limit's.
  int64_t last_due_ns_ = 0;    // Of the frames in order.
};

}  // namespace haven

#endif  // HAVEN_TESTS_LAB_HUB_LINK_H_
