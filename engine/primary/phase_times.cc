// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/phase_times.h"

#include "engine/base/check.h"

namespace haven {

const char* PhaseName(Phase phase) {
  static constexpr std::array<const char*, kPhases> kNames = {
      "suspend", "barrier", "bitmap", "copy", "state", "resume", "encode", "wire", "commit"};
  HAVEN_CHECK_LT(static_cast<size_t>(phase), kPhases);
  return kNames[static_cast<size_t>(phase)];
}

PhaseSummaries PhaseTimes::Summarize() const {
  PhaseSummaries summaries;
  for (size_t i = 0; i < kPhases; ++i) {
    const Histogram& histogram = histograms_[i];
    summaries[i] = {.count = histogram.count(),
                    .last_ns = histogram.last_ns(),
                    .p50_ns = histogram.QuantileNs(500),
                    .p99_ns = histogram.QuantileNs(990),
                    .max_ns = histogram.max_ns()};
  }
  return summaries;
}

}  // namespace haven
