// SPDX-License-Identifier: Apache-2.0
#include "engine/control/scaled_deadlines.h"

#include <algorithm>
#include <utility>

#include "engine/control/time_limit.h"

namespace haven {

PrimaryConfig ScaleDeadlines(PrimaryConfig config, uint64_t pages, uint64_t epoch_bytes) {
  // The copies' own time and half of it: an attempt's steps have their share of the deadline.
  config.session_deadline_ns *= config.domains;
  config.session_deadline_ns += LongestBuildNs(pages) * 3 / 2;
  config.progress_ns = std::max(config.progress_ns, LongestStepNs(epoch_bytes) / 2);
  return config;
}

}  // namespace haven
