// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/ram_run.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/base/random.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

// What the header promises, a frame at a time.
Gfn FirstNotRamSlowly(const GuestMemory& memory, Gfn first, uint64_t pages) {
  Gfn gfn = first;
  while (gfn < first + pages && memory.IsRam(gfn)) ++gfn;
  return gfn;
}

TEST(FirstNotRamTest, WordBorders) {
  const GuestMemory all = MakeGuest(200);
  EXPECT_EQ(FirstNotRam(all, 0, 0), 0u);
  EXPECT_EQ(FirstNotRam(all, 0, 1), 1u);
  EXPECT_EQ(FirstNotRam(all, 0, 64), 64u);
  EXPECT_EQ(FirstNotRam(all, 63, 2), 65u);
  EXPECT_EQ(FirstNotRam(all, 0, 200), 200u);
  EXPECT_EQ(FirstNotRam(all, 0, 201), 200u);
  EXPECT_EQ(FirstNotRam(all, 199, 5), 200u);
  EXPECT_EQ(FirstNotRam(all, 200, 5), 200u);
  EXPECT_EQ(FirstNotRam(all, 1000, 5), 1000u);
  EXPECT_EQ(FirstNotRam(all, UINT64_MAX - 1, 1), UINT64_MAX - 1);
  EXPECT_EQ(FirstNotRam(all, 0, UINT64_MAX), 200u);

  const GuestMemory holes = MakeGuest(200, {0, 64, 191});
  EXPECT_EQ(FirstNotRam(holes, 0, 10), 0u);
  EXPECT_EQ(FirstNotRam(holes, 1, 63), 64u);
  EXPECT_EQ(FirstNotRam(holes, 1, 64), 64u);
  EXPECT_EQ(FirstNotRam(holes, 65, 126), 191u);
  EXPECT_EQ(FirstNotRam(holes, 65, 135), 191u);
  EXPECT_EQ(FirstNotRam(holes, 192, 8), 200u);
}

TEST(FirstNotRamTest, BitsBeyondThePageCountAreNotRam) {
  const GuestMemory memory = MakeGuest(70);  // Its last word is all ones.
  EXPECT_EQ(FirstNotRam(memory, 0, 128), 70u);
}

TEST(FirstNotRamTest, AnEmptyGuestHasNone) {
  const GuestMemory none;
  EXPECT_EQ(FirstNotRam(none, 0, 1), 0u);
}

TEST(FirstNotRamTest, AgreesWithOneFrameAtATime) {
  Random random(6);
  for (int i = 0; i < 500; ++i) {
    const uint64_t page_count = 1 + random.Below(1000);
    std::vector<uint64_t> ram((page_count + 63) / 64, ~uint64_t{0});
    for (uint64_t hole = random.Below(6); hole > 0; --hole) {
      const Gfn gfn = random.Below(page_count);
      ram[gfn >> 6] &= ~(uint64_t{1} << (gfn & 63));
    }
    const GuestMemory memory({}, ram, page_count);
    for (int j = 0; j < 100; ++j) {
      const Gfn first = random.Below(page_count + 3);
      const uint64_t pages = random.Below(page_count + 3);
      EXPECT_EQ(FirstNotRam(memory, first, pages), FirstNotRamSlowly(memory, first, pages))
          << first << " + " << pages;
    }
  }
}

}  // namespace
}  // namespace haven
