// SPDX-License-Identifier: Apache-2.0
//
// The 32 bits that come with a write to the journal (docs/replica-format.md).
#ifndef HAVEN_ENGINE_REPLICA_IMMEDIATE_H_
#define HAVEN_ENGINE_REPLICA_IMMEDIATE_H_

#include <cstdint>

#include "engine/replica/identity.h"

namespace haven {

// Set in the immediate of a commit record; the other 31 bits are the low bits of the epoch. Clear
// in the immediate of a group of chunks; the other bits are then the number of the epoch's chunks
// complete so far, counted from its first.
inline constexpr uint32_t kCommitImmediateBit = uint32_t{1} << 31;

inline constexpr uint32_t CommitImmediate(Epoch epoch) {
  return kCommitImmediateBit | static_cast<uint32_t>(epoch & ~uint64_t{kCommitImmediateBit});
}

inline constexpr bool IsCommitImmediate(uint32_t immediate) {
  return (immediate & kCommitImmediateBit) != 0;
}

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_IMMEDIATE_H_
