// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/layout.h"

#include <vector>

#include "gtest/gtest.h"

namespace haven {
namespace {

SyntheticSpec SpecOf(uint64_t mem_bytes, uint32_t vcpus) {
  SyntheticSpec spec;
  spec.mem_bytes = mem_bytes;
  spec.vcpus = vcpus;
  return spec;
}

TEST(SyntheticLayoutTest, RamLeavesOutTheHoleTheGapAndTheSpecialPages) {
  const SyntheticLayout layout(SpecOf(uint64_t{1} << 20, 1));
  std::vector<std::byte> memory(layout.bytes());
  const GuestMemory view = layout.View(memory.data());
  EXPECT_EQ(view.page_count(), 256u + 32 + 24 + 8);
  uint64_t ram = 0;
  for (Gfn gfn = 0; gfn < view.page_count(); ++gfn) {
    const bool hole = gfn >= 0xa0 && gfn < 0xc0;
    EXPECT_EQ(view.IsRam(gfn), !hole && gfn < 256 + 32) << gfn;
    if (!view.IsRam(gfn)) continue;
    EXPECT_EQ(layout.RamFrame(ram), gfn);
    ++ram;
  }
  EXPECT_EQ(ram, layout.ram_pages());
  EXPECT_EQ(layout.special_first() + SyntheticLayout::kSpecialPages, view.page_count());
}

TEST(SyntheticLayoutTest, ChunksOfALargeGuestAreContiguous) {
  const SyntheticLayout layout(SpecOf(uint64_t{1} << 30, 1));
  // Never dereferenced: only the arithmetic is looked at.
  std::byte* const base = reinterpret_cast<std::byte*>(uint64_t{1} << 40);
  const GuestMemory view = layout.View(base);
  for (const Gfn gfn : {Gfn{0}, GuestMemory::kChunkPages - 1, GuestMemory::kChunkPages,
                        layout.RamFrame(layout.ram_pages() - 1)}) {
    ASSERT_TRUE(view.IsRam(gfn));
    EXPECT_EQ(view.Page(gfn), base + gfn * kPageBytes);
  }
}

TEST(SyntheticLayoutTest, PartitionsCoverAllRamOnce) {
  for (const uint64_t mem_bytes : {uint64_t{1} << 20, (uint64_t{1} << 20) + kPageBytes}) {
    for (uint32_t vcpus = 1; vcpus <= kSyntheticMaxVcpus; ++vcpus) {
      const SyntheticLayout layout(SpecOf(mem_bytes, vcpus));
      uint64_t next = 0;
      for (uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
        EXPECT_EQ(layout.Partition(vcpu).first, next);
        next += layout.Partition(vcpu).pages;
      }
      EXPECT_EQ(next, layout.ram_pages());
    }
  }
}

TEST(SyntheticLayoutTest, TheBitmapHasABitForEveryFrame) {
  const SyntheticLayout layout(SpecOf(uint64_t{128} << 20, 1));
  EXPECT_EQ(layout.bitmap_bytes() % kPageBytes, 0u);
  EXPECT_GE(layout.bitmap_bytes() * 8, layout.page_count());
}

}  // namespace
}  // namespace haven
