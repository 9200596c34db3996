// SPDX-License-Identifier: Apache-2.0
#include "xen/base/guest_mapping.h"

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kChunk = GuestMemory::kChunkPages;

std::vector<uint64_t> Bitmap(uint64_t frames,
                             const std::vector<std::pair<uint64_t, uint64_t>>& ram) {
  std::vector<uint64_t> bitmap((frames + 63) / 64);
  for (const auto& [first, end] : ram) {
    for (uint64_t i = first; i < end; ++i) bitmap[i / 64] |= uint64_t{1} << (i % 64);
  }
  return bitmap;
}

TEST(GuestMapping, EveryRamFrameIsWhereMemorySaysAndNothingElseIsMapped) {
  const uint64_t frames = 3 * kChunk + 100;
  // A hole, a run over the end of a chunk, a chunk without RAM, and the last frame.
  const auto ram =
      Bitmap(frames, {{0, 160}, {256, 300}, {kChunk - 2, kChunk + 2}, {frames - 1, frames}});
  auto mapper = std::make_unique<FakeMapper>();
  const auto mapped = mapper->mapped;
  const auto mapping = GuestMapping::Create("g1", std::move(mapper), ram, frames, true);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  const GuestMemory& memory = (*mapping)->memory();
  EXPECT_EQ(memory.page_count(), frames);
  uint64_t found = 0;
  for (Gfn gfn = 0; gfn < frames; ++gfn) {
    if (!memory.IsRam(gfn)) continue;
    ++found;
    EXPECT_EQ(*reinterpret_cast<uint64_t*>(memory.Page(gfn)), gfn);
  }
  EXPECT_EQ(found, 160u + 44 + 4 + 1);
  EXPECT_EQ(*mapped, found);
}

TEST(GuestMapping, AFrameThatCanNotBeMappedIsNamed) {
  auto mapper = std::make_unique<FakeMapper>();
  (*mapper->failing)[77] = ENOENT;
  const auto mapping =
      GuestMapping::Create("g1", std::move(mapper), Bitmap(100, {{0, 100}}), 100, false);
  EXPECT_TRUE(absl::IsFailedPrecondition(mapping.status())) << mapping.status();
  EXPECT_THAT(std::string(mapping.status().message()), HasSubstr("frame 0x4d"));
}

TEST(GuestMapping, AMapperThatFailsIsReported) {
  auto mapper = std::make_unique<FakeMapper>();
  mapper->error = absl::InternalError("no more");
  EXPECT_EQ(GuestMapping::Create("g1", std::move(mapper), Bitmap(1, {{0, 1}}), 1, false).status(),
            absl::InternalError("no more"));
}

}  // namespace
}  // namespace haven
