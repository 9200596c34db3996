// SPDX-License-Identifier: Apache-2.0
//
// Whether there is memory for the codec that an operator has asked for.
#ifndef HAVEN_ENGINE_CONTROL_CODEC_MEMORY_H_
#define HAVEN_ENGINE_CONTROL_CODEC_MEMORY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/primary/codec_stage.h"
#include "transport/memory_budget.h"

namespace haven {

// OK if a CodecStage of these arguments can be made, or none is wanted. Its memory is touched when
// it is taken, so too much of it would not fail but kill some process of the host.
// ResourceExhausted: there is not enough now; the message says what is wanted for what, what there
// is, and which options want less. Other errors as of CheckMemoryFor().
absl::Status CheckCodecMemory(const CodecStageOptions& options,
                              const std::vector<uint64_t>& page_counts, unsigned threads,
                              const MemoryBudgetRoots& roots = {});

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_CODEC_MEMORY_H_
