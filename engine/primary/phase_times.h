// SPDX-License-Identifier: Apache-2.0
//
// How long each phase of an epoch took (DESIGN.md section 4).
#ifndef HAVEN_ENGINE_PRIMARY_PHASE_TIMES_H_
#define HAVEN_ENGINE_PRIMARY_PHASE_TIMES_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/histogram.h"

namespace haven {

// In the order in which an epoch passes them. The guest stands still from kSuspend to kResume.
enum class Phase : uint8_t {
  kSuspend = 0,  // Request to stop until all guests of the group stand still.
  kBarrier = 1,  // Output barrier set.
  kBitmap = 2,   // Dirty logs fetched and cleared, and the epoch planned from them.
  kCopy = 3,     // Dirty pages copied to staging.
  kState = 4,    // vCPU and device state captured.
  kResume = 5,   // Guests told to run.
  kEncode = 6,   // Zero pages dropped, headers and checksums made.
  kWire = 7,     // First WRITE posted until the commit record's is complete.
  kCommit = 8,   // From then until the acknowledgement is seen.
};
inline constexpr size_t kPhases = 9;

// Lower-case name as shown in the status: "suspend" ... "commit".
const char* PhaseName(Phase phase);

struct PhaseSummary {
  uint64_t count = 0;
  uint64_t last_ns = 0;
  uint64_t p50_ns = 0;
  uint64_t p99_ns = 0;
  uint64_t max_ns = 0;
};

// One summary per phase, indexed by Phase.
using PhaseSummaries = std::array<PhaseSummary, kPhases>;

// One histogram per phase, about 330 KiB in all: keep it in an object on the heap. Used by one
// thread; Record allocates nothing.
class PhaseTimes {
 public:
  void Record(Phase phase, int64_t ns) { histograms_[static_cast<size_t>(phase)].Record(ns); }

  const Histogram& histogram(Phase phase) const { return histograms_[static_cast<size_t>(phase)]; }

  // Takes some tens of microseconds.
  PhaseSummaries Summarize() const;

 private:
  std::array<Histogram, kPhases> histograms_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_PHASE_TIMES_H_
