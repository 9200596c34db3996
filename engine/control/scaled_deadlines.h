// SPDX-License-Identifier: Apache-2.0
//
// Deadlines that depend on what is protected.
#ifndef HAVEN_ENGINE_CONTROL_SCALED_DEADLINES_H_
#define HAVEN_ENGINE_CONTROL_SCALED_DEADLINES_H_

#include <cstdint>

#include "engine/primary/primary.h"

namespace haven {

// `config`, whose deadlines are those of one small guest, for its guests with `pages` pages
// together and epochs of at most `epoch_bytes`. A backup builds copies one after the other, each in
// its own time and a second for each GiB (LongestBuildNs), and takes nothing from the wire while it
// verifies a large epoch.
PrimaryConfig ScaleDeadlines(PrimaryConfig config, uint64_t pages, uint64_t epoch_bytes);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SCALED_DEADLINES_H_
