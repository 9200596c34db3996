// SPDX-License-Identifier: Apache-2.0
//
// How a copy of a synthetic guest proves what it is a copy of.
#ifndef HAVEN_ENGINE_SYNTHETIC_VERIFY_H_
#define HAVEN_ENGINE_SYNTHETIC_VERIFY_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/guest_memory.h"
#include "engine/synthetic/spec.h"
#include "engine/synthetic/state.h"

namespace haven {

// OK proves that `memory` is the guest's RAM at the very instant of `state` (up to collisions of
// 2^-64): every byte of every block is what some write up to the state's counters puts there, and
// the sum over all blocks says that it was the last such write everywhere.
//
// DataLoss: it is not; the message names the first difference (vCPU, frame, byte, found, expected).
// InvalidArgument: memory of another size. Reads all of RAM, with one thread a vCPU.
//
// `zero_frames`, if not empty, has one bit a frame: set where the caller knows that the frame is
// zero. Those are not read, because reading a page that was never written would allocate it.
absl::Status VerifySyntheticImage(const SyntheticSpec& spec, const GuestMemory& memory,
                                  const SyntheticState& state,
                                  std::span<const uint64_t> zero_frames = {});

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_VERIFY_H_
