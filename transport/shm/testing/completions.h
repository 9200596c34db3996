// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_TESTING_COMPLETIONS_H_
#define HAVEN_TRANSPORT_SHM_TESTING_COMPLETIONS_H_

#include <cstdint>

#include "transport/fabric.h"

namespace haven {

// Completions as tests expect them.

inline bool operator==(const Completion& a, const Completion& b) {
  return a.id == b.id && a.kind == b.kind && a.result == b.result && a.immediate == b.immediate;
}

inline Completion Done(uint64_t id) { return {.id = id}; }
inline Completion Failed(uint64_t id) { return {.id = id, .result = CompletionResult::kRetry}; }
inline Completion Flushed(uint64_t id) { return {.id = id, .result = CompletionResult::kFlushed}; }
inline Completion Arrived(uint32_t immediate) {
  return {.kind = CompletionKind::kImmediate, .immediate = immediate};
}
// The link has failed with no request at hand.
inline Completion LinkDown(CompletionResult result = CompletionResult::kRetry) {
  return {.kind = CompletionKind::kImmediate, .result = result};
}

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_TESTING_COMPLETIONS_H_
