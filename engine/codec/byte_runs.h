// SPDX-License-Identifier: Apache-2.0
//
// Changed byte runs: what is sent of a page in which few bytes changed.
#ifndef HAVEN_ENGINE_CODEC_BYTE_RUNS_H_
#define HAVEN_ENGINE_CODEC_BYTE_RUNS_H_

#include <cstddef>
#include <cstdint>

#include "engine/codec/block_kernels.h"
#include "engine/codec/coded_page.h"

namespace haven {

// Finds the changed bytes of the lines in the mask and puts them into `page->runs`; a few unchanged
// bytes between two runs are taken along. `*cost` is what the runs take in directory and literals.
// False: more runs than a record holds, or not less than `limit` bytes; the runs are then of no
// use. Does not allocate.
bool FindByteRuns(const BlockKernels& kernels, const std::byte* before, const std::byte* after,
                  uint64_t lines, size_t limit, CodedPage* page, size_t* cost);

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_BYTE_RUNS_H_
