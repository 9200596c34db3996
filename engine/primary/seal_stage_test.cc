// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/seal_stage.h"

#include <vector>

#include "engine/base/crc32c.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint32_t kSlotBytes = 64 << 10;
constexpr uint32_t kPayloadBytes = kSlotBytes - kChunkHeaderBytes;
constexpr SealKey kKey = {std::byte{1}};

// The chunks of an epoch in plain, slot after slot.
std::vector<std::byte> PlainChunks(Epoch epoch, uint32_t chunks) {
  std::vector<std::byte> slots(size_t{chunks} * kSlotBytes, std::byte{0x77});
  for (uint32_t i = 0; i < chunks; ++i) {
    const std::span<std::byte> slot = std::span(slots).subspan(size_t{i} * kSlotBytes, kSlotBytes);
    EncodeChunkHeader({.identity = {.session = 1, .link = 1, .epoch = epoch, .index = i},
                       .payload_bytes = kPayloadBytes,
                       .frame_count = 1,
                       .payload_crc = Crc32c(slot.subspan(kChunkHeaderBytes))},
                      slot.first<kChunkHeaderBytes>());
  }
  return slots;
}

// The parameter is the number of workers beside the caller.
class SealStageTest : public ::testing::TestWithParam<unsigned> {
 protected:
  void Seal(Epoch epoch, std::vector<std::byte>& slots, std::vector<ChunkTotals>& totals) {
    stage_->Seal(
        epoch, totals,
        [&](uint32_t i) { return std::span(slots).subspan(size_t{i} * kSlotBytes, kSlotBytes); },
        pool_);
  }

  CopyPool pool_{GetParam()};
  const std::unique_ptr<SealStage> stage_ = *SealStage::Create(kKey, GetParam());
  const std::unique_ptr<ChunkOpener> opener_ = *ChunkOpener::Create(kKey, kSlotBytes);
};

TEST_P(SealStageTest, SealsEachChunkOfEachEpochOnce) {
  constexpr uint32_t kChunks = 40;
  for (Epoch epoch = 1; epoch < 6; ++epoch) {
    std::vector<std::byte> slots = PlainChunks(epoch, kChunks);
    std::vector<ChunkTotals> totals(kChunks);
    Seal(epoch, slots, totals);
    for (uint32_t i = 0; i < kChunks; ++i) {
      const std::span<const std::byte> slot =
          std::span(slots).subspan(size_t{i} * kSlotBytes, kSlotBytes);
      ChunkHeader header;
      uint32_t crc = 0;
      ASSERT_TRUE(DecodeChunkHeader(slot, &header, &crc).ok());
      EXPECT_EQ(crc, totals[i].chunk_crc);
      const auto plain = opener_->Open(header, ChunkPayload(slot, header));
      ASSERT_TRUE(plain.ok()) << plain.status();
      EXPECT_EQ((*plain)[kPayloadBytes / 2], std::byte{0x77});
    }
  }
}

TEST_P(SealStageTest, AnEpochWithoutChunksIsFine) {
  std::vector<std::byte> slots;
  std::vector<ChunkTotals> totals;
  Seal(1, slots, totals);
  EXPECT_TRUE(totals.empty());
}

TEST(SealStageDeathTest, NoEpochIsSealedTwice) {
  CopyPool pool(0);
  const std::unique_ptr<SealStage> stage = *SealStage::Create(kKey, 0);
  const auto none = [](uint32_t) { return std::span<std::byte>(); };
  stage->Seal(7, {}, none, pool);
  EXPECT_DEATH(stage->Seal(7, {}, none, pool), "epoch");
}

INSTANTIATE_TEST_SUITE_P(Workers, SealStageTest, ::testing::Values(0u, 3u));

}  // namespace
}  // namespace haven
