// SPDX-License-Identifier: Apache-2.0
//
// The inner loops of the codec, in variants for what the processor can do.
#ifndef HAVEN_ENGINE_CODEC_BLOCK_KERNELS_H_
#define HAVEN_ENGINE_CODEC_BLOCK_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/replica/identity.h"

namespace haven {

// The smallest block, a cache line: masks of a page have one bit for each.
inline constexpr size_t kLineBytes = 64;
inline constexpr size_t kPageLines = kPageBytes / kLineBytes;
static_assert(kPageLines == 64);

// One variant. The functions touch the bytes given and nothing else, at any alignment.
struct BlockKernels {
  const char* name;  // "avx512", "avx2" or "sse2".

  // One bit for each line of 64 bytes that differs between two pages, lowest bit first.
  uint64_t (*changed_lines)(const std::byte* before, const std::byte* after);

  // For each of these lines, in their order, puts one bit for each byte that differs between two
  // pages into `masks`, lowest bit first.
  void (*changed_bytes)(const std::byte* before, const std::byte* after, uint64_t lines,
                        uint64_t* masks);

  // One bit for each of these lines of a page that is not all zero.
  uint64_t (*nonzero_lines)(const std::byte* page, uint64_t lines);

  // Copies a page, and returns one bit for each line of it that is not all zero: both in one pass.
  uint64_t (*copy_page)(const std::byte* from, std::byte* to);

  // Writes a page: each of these lines takes the next 64 bytes of `literals`, the others are zero.
  void (*fill_lines)(uint64_t lines, const std::byte* literals, std::byte* page);
};

// The fastest variant for this processor; looked up once.
const BlockKernels& BestKernels();

// All variants that this processor can run, for tests and benchmarks.
std::span<const BlockKernels* const> AvailableKernels();

// From a mask of lines to one of blocks of 1 << shift bytes: bit i is set if any line of block i
// is. `shift` is 6, 7 or 8.
constexpr uint64_t LinesToBlocks(uint64_t lines, unsigned shift) {
  // Gathers the bit of every second pair, then closes the gaps.
  for (unsigned step = 6; step < shift; ++step) {
    lines = (lines | lines >> 1) & 0x5555555555555555;
    lines = (lines | lines >> 1) & 0x3333333333333333;
    lines = (lines | lines >> 2) & 0x0f0f0f0f0f0f0f0f;
    lines = (lines | lines >> 4) & 0x00ff00ff00ff00ff;
    lines = (lines | lines >> 8) & 0x0000ffff0000ffff;
    lines = (lines | lines >> 16) & 0x00000000ffffffff;
  }
  return lines;
}

// The other way: all lines of the blocks in the mask.
constexpr uint64_t BlocksToLines(uint64_t blocks, unsigned shift) {
  for (unsigned step = 6; step < shift; ++step) {
    blocks = (blocks | blocks << 16) & 0x0000ffff0000ffff;
    blocks = (blocks | blocks << 8) & 0x00ff00ff00ff00ff;
    blocks = (blocks | blocks << 4) & 0x0f0f0f0f0f0f0f0f;
    blocks = (blocks | blocks << 2) & 0x3333333333333333;
    blocks = (blocks | blocks << 1) & 0x5555555555555555;
    blocks |= blocks << 1;
  }
  return blocks;
}

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_BLOCK_KERNELS_H_
