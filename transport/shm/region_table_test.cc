// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/region_table.h"

#include <gtest/gtest.h>

#include <array>

namespace haven {
namespace {

TEST(RegionTable, FindsWhatLiesInARegion) {
  std::array<std::byte, 100> memory;
  RegionTable table;
  table.Add(3, memory);
  EXPECT_EQ(table.Find(3, 0, 100), memory.data());
  EXPECT_EQ(table.Find(3, 99, 1), memory.data() + 99);
  EXPECT_EQ(table.Find(3, 100, 0), memory.data() + 100);
  table.Add(kMaxRegions - 1, memory);
  EXPECT_EQ(table.Find(kMaxRegions - 1, 10, 10), memory.data() + 10);
}

TEST(RegionTable, RefusesEverythingElse) {
  std::array<std::byte, 100> memory;
  RegionTable table;
  table.Add(3, memory);
  EXPECT_EQ(table.Find(3, 0, 101), nullptr);
  EXPECT_EQ(table.Find(3, 1, 100), nullptr);
  EXPECT_EQ(table.Find(3, 101, 0), nullptr);
  EXPECT_EQ(table.Find(3, UINT64_MAX, 1), nullptr);
  EXPECT_EQ(table.Find(3, UINT64_MAX, UINT64_MAX), nullptr);
  EXPECT_EQ(table.Find(3, 1, UINT64_MAX), nullptr);
  EXPECT_EQ(table.Find(2, 0, 1), nullptr);
  EXPECT_EQ(table.Find(kMaxRegions, 0, 1), nullptr);
  EXPECT_EQ(table.Find(UINT64_MAX, 0, 1), nullptr);
}

}  // namespace
}  // namespace haven
