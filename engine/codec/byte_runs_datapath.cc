// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <bit>
#include <span>

#include "engine/codec/byte_runs.h"
#include "engine/codec/directory_writer.h"

namespace haven {
namespace {

// Unchanged bytes between two runs that cost no more than a run of their own.
constexpr uint32_t kMaxBridge = 2;

// Sets the bits of gaps of up to kMaxBridge between two set bits.
constexpr uint64_t CloseGaps(uint64_t bits) {
  static_assert(kMaxBridge == 2);
  const uint64_t one = bits << 1 & bits >> 1;
  const uint64_t two = bits << 1 & bits >> 2;
  return bits | one | two | two << 1;
}
static_assert(CloseGaps(0b1001) == 0b1111 && CloseGaps(0b10001) == 0b10001);
static_assert(CloseGaps(uint64_t{9} << 60) == uint64_t{15} << 60);

size_t CostOf(const ByteRun& run, uint32_t end_before) {
  return VarintBytes(run.at - end_before) + VarintBytes(run.bytes - 1u) + run.bytes;
}

// At least so many bytes do the runs of these masks take. Runs of two lines may be one, if the
// second begins as its line does.
size_t LeastCost(std::span<const uint64_t> masks) {
  constexpr uint64_t kMayBelongToTheLineBefore = (uint64_t{2} << kMaxBridge) - 1;
  size_t bytes = 0;
  for (const uint64_t mask : masks) {
    const uint64_t starts = mask & ~(mask << 1) & ~kMayBelongToTheLineBefore;
    bytes += static_cast<size_t>(std::popcount(mask) + 2 * std::popcount(starts));
  }
  return bytes;
}

}  // namespace

bool FindByteRuns(const BlockKernels& kernels, const std::byte* before, const std::byte* after,
                  uint64_t lines, size_t limit, CodedPage* page, size_t* cost) {
  std::array<uint64_t, kPageLines> all;
  const std::span<uint64_t> masks = std::span(all).first(static_cast<size_t>(std::popcount(lines)));
  kernels.changed_bytes(before, after, lines, all.data());
  for (uint64_t& mask : masks) mask = CloseGaps(mask);
  // Where it is hopeless, as it often is, the runs need not be made to know it.
  if (LeastCost(masks) >= limit) return false;
  uint32_t count = 0;
  ByteRun last;           // Not in the page yet, if count or its length is not 0.
  uint32_t last_end = 0;  // Of the runs before it.
  size_t bytes = 0;       // Of the runs before it.
  for (size_t i = 0; lines != 0; ++i, lines &= lines - 1) {
    const uint32_t line = static_cast<uint32_t>(std::countr_zero(lines)) * uint32_t{kLineBytes};
    uint64_t changed = masks[i];
    while (changed != 0) {
      const uint32_t skip = static_cast<uint32_t>(std::countr_zero(changed));
      const uint32_t length = static_cast<uint32_t>(std::countr_one(changed >> skip));
      const uint32_t at = line + skip;
      changed = skip + length == kLineBytes ? 0 : changed >> (skip + length) << (skip + length);
      const uint32_t end = uint32_t{last.at} + last.bytes;
      if (last.bytes != 0 && at - end <= kMaxBridge) {
        last.bytes = static_cast<uint16_t>(at + length - last.at);
        continue;
      }
      if (last.bytes != 0) {
        bytes += CostOf(last, last_end);
        last_end = end;
        if (count + 1 >= kMaxByteRuns || bytes >= limit) return false;
        page->runs[count++] = last;
      }
      last = {.at = static_cast<uint16_t>(at), .bytes = static_cast<uint16_t>(length)};
    }
  }
  if (last.bytes != 0) {
    bytes += CostOf(last, last_end);
    page->runs[count++] = last;
  }
  bytes += VarintBytes(count);
  page->run_count = count;
  *cost = bytes;
  return bytes < limit;
}

}  // namespace haven
