// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/layout.h"

#include <utility>

#include "engine/base/check.h"

namespace haven {

SyntheticLayout::SyntheticLayout(const SyntheticSpec& spec)
    : ram_pages_(spec.mem_bytes / kPageBytes), vcpus_(spec.vcpus) {
  HAVEN_CHECK_GT(ram_pages_, kHoleFirst);
  HAVEN_CHECK(vcpus_ >= 1 && vcpus_ <= kSyntheticMaxVcpus);
}

size_t SyntheticLayout::bitmap_bytes() const {
  const uint64_t bits_per_page = kPageBytes * 8;
  return static_cast<size_t>((page_count() + bits_per_page - 1) / bits_per_page * kPageBytes);
}

RamRange SyntheticLayout::Partition(uint32_t vcpu) const {
  HAVEN_CHECK_LT(vcpu, vcpus_);
  const uint64_t first = ram_pages_ * vcpu / vcpus_;
  const uint64_t end = ram_pages_ * (vcpu + 1) / vcpus_;
  return {first, end - first};
}

GuestMemory SyntheticLayout::View(std::byte* base) const {
  std::vector<std::byte*> chunks;
  for (uint64_t first = 0; first < page_count(); first += GuestMemory::kChunkPages) {
    chunks.push_back(base + first * kPageBytes);
  }
  std::vector<uint64_t> ram(static_cast<size_t>((page_count() + 63) / 64), 0);
  for (uint64_t index = 0; index < ram_pages_; ++index) {
    const Gfn gfn = RamFrame(index);
    ram[static_cast<size_t>(gfn / 64)] |= uint64_t{1} << (gfn % 64);
  }
  return GuestMemory(std::move(chunks), std::move(ram), page_count());
}

}  // namespace haven
