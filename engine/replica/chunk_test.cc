// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/chunk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "engine/base/crc32c.h"
#include "engine/base/random.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr char kChunkHeader[] =
    "4856434b"                      // magic "HVCK"
    "0100"                          // version
    "0000"                          // flags
    "8877665544332211"              // session
    "03000000"                      // link
    "00000000"                      // index
    "0900000000000000"              // epoch
    "30000000"                      // payload bytes
    "02000000"                      // frame count
    "1a10fed5"                      // payload CRC32C
    "0200"                          // kind: checkpoint
    "0000000000000000000000000000"  // reserved
    "b3c57aa0";                     // CRC32C

constexpr size_t kSlotBytes = 112;  // Header and payload of the sample, no more.
constexpr ChunkHeader kSample = {.identity = {.session = 0x1122334455667788,
                                              .link = 3,
                                              .epoch = 9,
                                              .kind = EpochKind::kCheckpoint,
                                              .index = 0},
                                 .payload_bytes = 48,
                                 .frame_count = 2,
                                 .payload_crc = 0xd5fe101a};
constexpr uint32_t kSampleCrc = 0xa07ac5b3;

std::vector<std::byte> SampleSlot() {
  std::vector<std::byte> slot = FromHex(kChunkHeader);
  slot.resize(kSlotBytes);
  return slot;
}

TEST(ChunkHeaderTest, EncodesToTheDocumentedBytes) {
  std::array<std::byte, kChunkHeaderBytes> bytes;
  bytes.fill(std::byte{0xee});
  EXPECT_EQ(EncodeChunkHeader(kSample, bytes), kSampleCrc);
  EXPECT_EQ(ToHex(bytes), kChunkHeader);
}

TEST(ChunkHeaderTest, DecodesTheDocumentedBytes) {
  ChunkHeader header;
  uint32_t crc = 0;
  const std::vector<std::byte> slot = SampleSlot();
  ASSERT_TRUE(DecodeChunkHeader(slot, &header, &crc).ok());
  EXPECT_EQ(header, kSample);
  EXPECT_EQ(crc, kSampleCrc);
  const std::span<const std::byte> payload = ChunkPayload(slot, header);
  EXPECT_EQ(payload.data(), slot.data() + kChunkHeaderBytes);
  EXPECT_EQ(payload.size(), 48u);
}

TEST(ChunkHeaderTest, RandomValuesSurviveTheRoundTrip) {
  Random random(4);
  for (int i = 0; i < 1000; ++i) {
    std::vector<std::byte> slot(4096);
    const uint32_t frames = static_cast<uint32_t>(1 + random.Below(200));
    const ChunkHeader sent = {
        .identity = {.session = random.Next() | 1,
                     .link = static_cast<uint32_t>(random.Next()) | 1,
                     .epoch = random.Next() | 1,
                     .kind = random.Chance(1, 2) ? EpochKind::kSync : EpochKind::kCheckpoint,
                     .index = static_cast<uint32_t>(random.Next())},
        .payload_bytes = frames * 16 + 16 * static_cast<uint32_t>(random.Below(50)),
        .frame_count = frames,
        .payload_crc = static_cast<uint32_t>(random.Next())};
    const uint32_t sent_crc = EncodeChunkHeader(sent, std::span(slot).first<kChunkHeaderBytes>());
    ChunkHeader read;
    uint32_t read_crc = 0;
    ASSERT_TRUE(DecodeChunkHeader(slot, &read, &read_crc).ok());
    EXPECT_EQ(read, sent);
    EXPECT_EQ(read_crc, sent_crc);
  }
}

struct Damage {
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

TEST(ChunkHeaderTest, EachWrongFieldIsNamed) {
  const Damage cases[] = {
      {0, 4, 7, "magic is 7,"},
      {4, 2, 0, "version is 0,"},
      {6, 2, 2, "flags is 2,"},
      {8, 8, 0, "session is 0,"},
      {16, 4, 0, "link is 0,"},
      {24, 8, 0, "epoch is 0,"},
      {32, 4, 64, "payload_bytes is 64, must be at most 48"},
      {32, 4, UINT32_MAX, "payload_bytes is 4294967295, must be at most 48"},
      {32, 4, 0, "payload_bytes is 0, must be a positive multiple of 16"},
      {32, 4, 40, "payload_bytes is 40, must be a positive multiple of 16"},
      {36, 4, 0, "frame_count is 0, must be 1 .. 3"},
      {36, 4, 4, "frame_count is 4, must be 1 .. 3"},
      {44, 2, 0, "kind is 0,"},
      {44, 2, 3, "kind is 3,"},
      {46, 1, 1, "reserved byte at offset 46 is 1,"},
      {59, 1, 1, "reserved byte at offset 59 is 1,"},
  };
  for (const Damage& damage : cases) {
    std::vector<std::byte> slot = SampleSlot();
    Poke(slot, damage.offset, damage.width, damage.value);
    RepairSection(std::span(slot).first(kChunkHeaderBytes));
    ChunkHeader out;
    uint32_t crc = 1;
    const absl::Status status = DecodeChunkHeader(slot, &out, &crc);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damage.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr("chunk header: " + damage.error));
    EXPECT_EQ(out, ChunkHeader()) << "changed by a failed decode";
    EXPECT_EQ(crc, 1u);
  }
}

TEST(ChunkHeaderTest, DamageWithoutRepairIsDataLoss) {
  for (size_t bit = 0; bit < kChunkHeaderBytes * 8; ++bit) {
    std::vector<std::byte> slot = SampleSlot();
    slot[bit / 8] ^= std::byte{1} << (bit % 8);
    ChunkHeader out;
    uint32_t crc = 0;
    EXPECT_EQ(DecodeChunkHeader(slot, &out, &crc).code(), absl::StatusCode::kDataLoss) << bit;
  }
}

TEST(ChunkHeaderTest, UntouchedIsNotFoundAndShortIsRefused) {
  const std::vector<std::byte> untouched(kSlotBytes);
  ChunkHeader out;
  uint32_t crc = 0;
  EXPECT_EQ(DecodeChunkHeader(untouched, &out, &crc).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(DecodeChunkHeader(std::span(untouched).first(63), &out, &crc).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EpochTotalsTest, SumsUpAndChainsTheChunkCrcsInOrder) {
  EpochTotals totals;
  EXPECT_EQ(totals.chunks_crc, 0u);
  totals.Add({.payload_bytes = 32, .frame_count = 2, .page_count = 5, .chunk_crc = 0x04030201});
  totals.Add({.payload_bytes = 48, .frame_count = 3, .page_count = 7, .chunk_crc = 0x08070605});
  const std::vector<std::byte> crcs = FromHex("0102030405060708");
  EXPECT_EQ(totals, (EpochTotals{.chunk_count = 2,
                                 .payload_bytes = 80,
                                 .frame_count = 5,
                                 .page_count = 12,
                                 .chunks_crc = Crc32c(crcs)}));
}

}  // namespace
}  // namespace haven
