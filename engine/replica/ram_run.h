// SPDX-License-Identifier: Apache-2.0
//
// Runs of frames against the bitmap of a guest's RAM.
#ifndef HAVEN_ENGINE_REPLICA_RAM_RUN_H_
#define HAVEN_ENGINE_REPLICA_RAM_RUN_H_

#include <cstdint>

#include "engine/replica/guest_memory.h"
#include "engine/replica/identity.h"

namespace haven {

// The first frame of [first, first + pages) for which memory.IsRam() does not hold; first + pages
// if there is none. Any values for which first + pages does not wrap. 64 frames a step.
Gfn FirstNotRam(const GuestMemory& memory, Gfn first, uint64_t pages);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_RAM_RUN_H_
