// SPDX-License-Identifier: Apache-2.0
#include "engine/base/byte_order.h"
#include "engine/synthetic/mix.h"
#include "engine/synthetic/workload.h"

namespace haven {
namespace {

// Maps 32 random bits to [0, bound); `bound` is below 2^32.
uint64_t Scale(uint64_t random32, uint64_t bound) { return (random32 * bound) >> 32; }

}  // namespace

BlockPlace VcpuWorkload::Place(uint64_t number) const {
  if (number <= fill_blocks_) {
    const uint64_t block = number - 1;
    return {layout_.RamFrame(range_.first + block / blocks_per_page_),
            static_cast<uint32_t>(block % blocks_per_page_) * block_bytes_};
  }
  const uint64_t choice = MixIn(key_, number);
  const uint64_t where = Mix64(choice + kGoldenGamma);
  const bool hot = hot_pages_ == range_.pages || Scale(choice >> 32, kPpm) < locality_ppm_;
  const uint64_t page = hot ? Scale(where >> 32, hot_pages_)
                            : hot_pages_ + Scale(where >> 32, range_.pages - hot_pages_);
  return {layout_.RamFrame(range_.first + page),
          static_cast<uint32_t>(where & (blocks_per_page_ - 1)) * block_bytes_};
}

uint64_t VcpuWorkload::Tag(uint64_t number, BlockPlace place) const {
  return MixIn(MixIn(key_, number), place.gfn * kPageBytes + place.offset_bytes);
}

void VcpuWorkload::Generate(uint64_t number, BlockPlace place, std::span<std::byte> block) const {
  const uint64_t tag = Tag(number, place);
  std::byte* const bytes = block.data();
  StoreLe64(bytes, number);
  StoreLe64(bytes + 8, tag);
  // One multiplication a word: the words must differ and not compress; nothing else rests on them.
  uint64_t word = tag;
  for (size_t at = 16; at < block.size(); at += 8) {
    word += kGoldenGamma;
    StoreLe64(bytes + at, (word ^ (word >> 29)) * 0xbf58476d1ce4e5b9);
  }
}

Gfn VcpuWorkload::Write(const GuestMemory& memory, VcpuState& state) const {
  const uint64_t number = state.writes + 1;
  const BlockPlace place = Place(number);
  std::byte* const block = memory.Page(place.gfn) + place.offset_bytes;
  const uint64_t old_tag = LoadLe64(block + 8);
  Generate(number, place, {block, block_bytes_});
  state.checksum += LoadLe64(block + 8) - old_tag;
  state.writes = number;
  return place.gfn;
}

}  // namespace haven
