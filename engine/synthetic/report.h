// SPDX-License-Identifier: Apache-2.0
//
// What a promoted copy found out about itself.
#ifndef HAVEN_ENGINE_SYNTHETIC_REPORT_H_
#define HAVEN_ENGINE_SYNTHETIC_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/synthetic/spec.h"
#include "engine/synthetic/state.h"

namespace haven {

// Written by a waiting copy when it is given its state, next to its socket.
struct SyntheticReport {
  enum class Verdict : uint8_t {
    kNotChecked = 0,  // verify=0.
    kEqual = 1,       // Memory and state are those of the original at one instant.
    kDifferent = 2,   // They are not; the copy refused to run.
  };
  std::string name;
  Verdict verdict = Verdict::kNotChecked;
  // Of kDifferent: the first difference. One line.
  std::string finding;
  // The state it was given: that of the promoted checkpoint. Packets of the original with a
  // sequence number below next_sequence belong to it, the others to epochs that never were.
  SyntheticState state;

  friend bool operator==(const SyntheticReport&, const SyntheticReport&) = default;
};

// Replaces the file at `path`, whole or not at all, without waiting for the disk.
absl::Status WriteSyntheticReport(const std::string& path, const SyntheticReport& report);

// NotFound: there is none. DataLoss names what is wrong with it.
absl::StatusOr<SyntheticReport> ReadSyntheticReport(const std::string& path);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_REPORT_H_
