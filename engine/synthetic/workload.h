// SPDX-License-Identifier: Apache-2.0
//
// What one vCPU of a synthetic guest writes, as a pure function of a counter.
#ifndef HAVEN_ENGINE_SYNTHETIC_WORKLOAD_H_
#define HAVEN_ENGINE_SYNTHETIC_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/replica/guest_memory.h"
#include "engine/synthetic/layout.h"
#include "engine/synthetic/spec.h"

namespace haven {

// Everything that a vCPU carries from one write to the next.
struct VcpuState {
  // Writes carried out; the last one had this number. The first has number 1.
  uint64_t writes = 0;
  // Sum (mod 2^64) of the tags of all blocks in the vCPU's partition.
  uint64_t checksum = 0;

  friend bool operator==(const VcpuState&, const VcpuState&) = default;
};

// Where a write goes.
struct BlockPlace {
  Gfn gfn = 0;
  uint32_t offset_bytes = 0;

  friend bool operator==(const BlockPlace&, const BlockPlace&) = default;
};

// The endless sequence of writes of one vCPU. Write number n replaces one block; its place and its
// content follow from (content key, vCPU, n) alone:
//
//   bytes 0-7    n, little-endian; 0 only in a block that was never written, which is all zero
//   bytes 8-15   the tag, a 64-bit mix of key, vCPU, place and n
//   then         pseudo-random words made from the tag
//
// The sum of the tags in a partition is kept up to date in O(1) a write, and it names the last
// write to each block up to collisions of 2^-64. Memory of which every block is a genuine write
// and whose sum is that of a state is therefore the memory at the instant of that state
// (verify.h). The first writes go through the share of the pages that is filled, block by block.
//
// Immutable and thread-safe, except that Write needs the partition and the state for itself.
class VcpuWorkload {
 public:
  VcpuWorkload(const SyntheticSpec& spec, const SyntheticLayout& layout, uint32_t vcpu);

  // Number of the last of the filling writes; 0 if there are none.
  uint64_t fill_writes() const { return fill_blocks_; }

  // Place of write `number`, which is not 0.
  BlockPlace Place(uint64_t number) const;

  // The tag of write `number` at its place.
  uint64_t Tag(uint64_t number, BlockPlace place) const;

  // The content of write `number`; `block` has the spec's block size.
  void Generate(uint64_t number, BlockPlace place, std::span<std::byte> block) const;

  // Carries out the next write and returns the frame it changed.
  Gfn Write(const GuestMemory& memory, VcpuState& state) const;

 private:
  const SyntheticLayout layout_;
  const uint64_t key_;
  const RamRange range_;
  const uint32_t block_bytes_;
  const uint32_t blocks_per_page_;
  const uint32_t locality_ppm_;
  const uint64_t hot_pages_;
  const uint64_t fill_blocks_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_WORKLOAD_H_
