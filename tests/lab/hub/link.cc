// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/link.h"

#include <algorithm>

#include "engine/base/clock.h"

namespace haven {

HubLink::Fate HubLink::Offer(size_t bytes, int64_t now_ns, Random& random) {
  ++counters_.frames;
  counters_.bytes += static_cast<int64_t>(bytes);
  Fate fate;
  if (rule_.cut) {
    ++counters_.cut;
    fate.dropped = true;
    return fate;
  }
  if (random.Unit() < rule_.loss) {
    ++counters_.lost;
    fate.dropped = true;
    return fate;
  }
  const int64_t sent_ns = SentNs(bytes, now_ns);
  if (sent_ns < 0) {
    ++counters_.overflowed;
    fate.dropped = true;
    return fate;
  }
  fate.corrupted = random.Unit() < rule_.corrupt;
  fate.duplicated = random.Unit() < rule_.duplicate;
  counters_.corrupted += fate.corrupted;
  counters_.duplicated += fate.duplicated;
  fate.due_ns = sent_ns + rule_.delay_us * kNsPerUs;
  if (random.Unit() < rule_.reorder) {
    ++counters_.reordered;
    fate.due_ns += rule_.reorder_us * kNsPerUs;
    return fate;
  }
  if (rule_.jitter_us > 0) fate.due_ns += random.Between(0, rule_.jitter_us * kNsPerUs);
  fate.due_ns = std::max(fate.due_ns, last_due_ns_);
  last_due_ns_ = fate.due_ns;
  return fate;
}

int64_t HubLink::SentNs(size_t bytes, int64_t now_ns) {
  if (rule_.rate_kbps == 0) return now_ns;
  // 1 kbit/s is one bit per millisecond.
  const int64_t wait_ns = std::max<int64_t>(0, busy_until_ns_ - now_ns);
  const int64_t waiting_bytes = wait_ns / kNsPerMs * rule_.rate_kbps / 8;
  if (waiting_bytes + static_cast<int64_t>(bytes) > rule_.queue_bytes) return -1;
  const int64_t bits = static_cast<int64_t>(bytes) * 8;
  busy_until_ns_ = now_ns + wait_ns + bits * kNsPerMs / rule_.rate_kbps;
  return busy_until_ns_;
}

}  // namespace haven
