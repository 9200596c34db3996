// SPDX-License-Identifier: Apache-2.0
#include "xen/base/ram_map.h"

#include <xen/hvm/params.h>

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

bool IsRam(const RamMap& map, uint64_t frame) {
  return ((map.ram[frame / 64] >> (frame % 64)) & 1) != 0;
}

TEST(RamMap, OrdinaryFramesAreRamAndHolesAreNot) {
  FakeDomainControl control(3000);
  for (uint64_t i = 160; i < 256; ++i) control.types[i] = 0xf;
  const auto map = ReadRamMap(control);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->frame_count, 3000u);
  EXPECT_EQ(map->ram_frames, 3000u - 96);
  EXPECT_TRUE(IsRam(*map, 159));
  EXPECT_FALSE(IsRam(*map, 160));
  EXPECT_FALSE(IsRam(*map, 255));
  EXPECT_TRUE(IsRam(*map, 2999));
  EXPECT_EQ(control.type_calls, 3) << "1024 frames in one call";
}

TEST(RamMap, RingsOfTheToolstackAreSpecialAndNoRam) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_STORE_PFN] = 90;
  control.params[HVM_PARAM_CONSOLE_PFN] = 91;
  control.params[HVM_PARAM_PAGING_RING_PFN] = 91;  // Twice the same counts once.
  control.params[HVM_PARAM_IOREQ_SERVER_PFN] = 95;
  control.params[HVM_PARAM_NR_IOREQ_SERVER_PAGES] = 2;
  const auto map = ReadRamMap(control);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_THAT(map->special, ElementsAre(90, 91, 95, 96));
  EXPECT_EQ(map->ram_frames, 96u);
  for (const uint64_t frame : map->special) EXPECT_FALSE(IsRam(*map, frame)) << frame;
}

TEST(RamMap, TheHoleOfASmallGuestIsNotSearched) {
  constexpr uint64_t kFrames = 1'044'480, kRam = 32'768;
  FakeDomainControl control(kFrames);
  std::fill(control.types.begin() + kRam, control.types.end(), 0xf);
  for (const uint64_t frame : {kFrames - 8, kFrames - 5}) control.types[frame] = 0;
  control.params[HVM_PARAM_STORE_PFN] = kFrames - 5;
  control.params[HVM_PARAM_CONSOLE_PFN] = kFrames - 8;
  control.status.pages = kRam + 2;
  const auto map = ReadRamMap(control);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->ram_frames, kRam);
  EXPECT_TRUE(IsRam(*map, kRam - 1));
  EXPECT_THAT(map->special, ElementsAre(kFrames - 8, kFrames - 5));
  EXPECT_EQ(control.type_calls, 34) << "the 32 of its RAM, one of the hole, and the last";
  EXPECT_EQ(map->batches, 34u);
}

TEST(RamMap, RamBehindHolesIsFoundWhereverItLies) {
  FakeDomainControl control(20 * 1024);
  std::fill(control.types.begin(), control.types.end(), 0xf);
  for (const uint64_t frame : {0, 9 * 1024, 12 * 1024 + 7, 20 * 1024 - 1}) control.types[frame] = 0;
  control.status.pages = 4;
  const auto map = ReadRamMap(control);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->ram_frames, 4u);
  EXPECT_TRUE(IsRam(*map, 9 * 1024));
  EXPECT_TRUE(IsRam(*map, 12 * 1024 + 7));
}

TEST(RamMap, PagesThatLieAtNoFrameCostAWholeSearch) {
  FakeDomainControl control(3000);
  for (uint64_t i = 160; i < 3000; ++i) control.types[i] = 0xf;
  control.status.pages = 161;
  const auto map = ReadRamMap(control);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->ram_frames, 160u);
  EXPECT_EQ(control.type_calls, 3);
}

TEST(RamMap, ASpecialFrameWithoutAPageIsLeftOut) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_STORE_PFN] = 90;
  control.types[90] = 0xf;
  const auto map = ReadRamMap(control);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_TRUE(map->special.empty());
}

TEST(RamMap, PagesOfAPvGuestAndBrokenOnesAreRefused) {
  for (const uint64_t type : {0x1, 0x9, 0xd}) {
    FakeDomainControl control(100);
    control.types[33] = type;
    const absl::Status status = ReadRamMap(control).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << type;
    EXPECT_THAT(std::string(status.message()), HasSubstr("frame 0x21"));
  }
}

TEST(RamMap, AnErrorOfTheHypervisorIsPassedOn) {
  FakeDomainControl control(100);
  control.error = absl::NotFoundError("gone");
  EXPECT_EQ(ReadRamMap(control).status(), absl::NotFoundError("gone"));
}

}  // namespace
}  // namespace haven
