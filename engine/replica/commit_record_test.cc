// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/commit_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr char kRecord[] =
    "48564352"                                                          // magic "HVCR"
    "0100"                                                              // version
    "0200"                                                              // kind: checkpoint
    "00000000"                                                          // flags
    "03000000"                                                          // link
    "8877665544332211"                                                  // session
    "0900000000000000"                                                  // epoch
    "0800000000000000"                                                  // base epoch
    "0b0a000000000000"                                                  // first position
    "02000000"                                                          // ring slots used
    "05000000"                                                          // chunk count
    "204e000000000000"                                                  // payload bytes
    "0700000000000000"                                                  // frame count
    "2c01000000000000"                                                  // page count
    "0200"                                                              // domain count
    "0200"                                                              // extent count
    "efbeadde"                                                          // CRC over the chunk CRCs
    "03000000"                                                          // extent
    "01000000"                                                          // extent
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents ...
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents ...
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents ...
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents ...
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents ...
    "0000000000000000000000000000000000000000000000000000000000000000"  // unused extents ...
    "000000000000000000000000000000000000000000000000"                  // unused extents ...
    "00000000"                                                          // reserved
    "b04dec0a";                                                         // CRC32C

constexpr JournalGeometry kGeometry = {
    .slot_bytes = 65536, .ring_slots = 8, .pool_slots = 8, .extent_slots = 2};

CommitRecord Sample() {
  CommitRecord record = {
      .session = 0x1122334455667788,
      .link = 3,
      .kind = EpochKind::kCheckpoint,
      .epoch = 9,
      .base_epoch = 8,
      .domain_count = 2,
      .placement = {.first_position = 0x0a0b, .ring_slots_used = 2, .extent_count = 2},
      .totals = {.chunk_count = 5,
                 .payload_bytes = 20000,
                 .frame_count = 7,
                 .page_count = 300,
                 .chunks_crc = 0xdeadbeef}};
  record.placement.extents[0] = 3;
  record.placement.extents[1] = 1;
  return record;
}

TEST(CommitRecordTest, EncodesToTheDocumentedBytes) {
  std::array<std::byte, kCommitRecordBytes> bytes;
  bytes.fill(std::byte{0xee});
  EncodeCommitRecord(Sample(), bytes);
  EXPECT_EQ(ToHex(bytes), kRecord);
}

TEST(CommitRecordTest, DecodesTheDocumentedBytesAlsoFromAWholeSlot) {
  std::vector<std::byte> slot = FromHex(kRecord);
  slot.resize(1024, std::byte{0x55});
  CommitRecord record;
  const absl::Status status = DecodeCommitRecord(slot, kGeometry, &record);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(record, Sample());
}

TEST(CommitRecordTest, AnEmptySyncEpochIsARecordWithoutChunks) {
  const CommitRecord empty = {.session = 1, .link = 1, .epoch = 1, .domain_count = 1};
  std::array<std::byte, kCommitRecordBytes> bytes;
  EncodeCommitRecord(empty, bytes);
  CommitRecord record;
  ASSERT_TRUE(DecodeCommitRecord(bytes, kGeometry, &record).ok());
  EXPECT_EQ(record, empty);
}

TEST(CommitRecordTest, RandomValuesSurviveTheRoundTrip) {
  Random random(3);
  for (int i = 0; i < 1000; ++i) {
    CommitRecord sent;
    sent.session = random.Next() | 1;
    sent.link = static_cast<uint32_t>(random.Next()) | 1;
    sent.kind = random.Chance(1, 2) ? EpochKind::kSync : EpochKind::kCheckpoint;
    sent.base_epoch = random.Next() >> 1;
    sent.epoch = sent.base_epoch + 1 + random.Below(10);
    sent.domain_count = static_cast<uint16_t>(1 + random.Below(kMaxDomains));
    sent.placement.first_position = random.Next() >> 1;
    sent.placement.ring_slots_used = static_cast<uint32_t>(random.Below(9));
    sent.placement.extent_count = static_cast<uint32_t>(random.Below(5));
    for (uint32_t e = 0; e < sent.placement.extent_count; ++e) sent.placement.extents[e] = 3 - e;
    sent.totals.chunk_count = static_cast<uint32_t>(sent.placement.capacity(kGeometry));
    if (sent.totals.chunk_count == 0) continue;
    sent.totals.frame_count = sent.totals.chunk_count + 16 + random.Below(100);
    sent.totals.payload_bytes = sent.totals.frame_count * 16 + 4096 * random.Below(10);
    sent.totals.page_count = random.Below(1000);
    sent.totals.chunks_crc = static_cast<uint32_t>(random.Next());
    std::array<std::byte, kCommitRecordBytes> bytes;
    EncodeCommitRecord(sent, bytes);
    CommitRecord read;
    const absl::Status status = DecodeCommitRecord(bytes, kGeometry, &read);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(read, sent);
  }
}

struct Damage {
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

TEST(CommitRecordTest, EachWrongFieldIsNamed) {
  const Damage cases[] = {
      {0, 4, 1, "magic is 1,"},
      {4, 2, 2, "version is 2,"},
      {6, 2, 0, "kind is 0,"},
      {6, 2, 3, "kind is 3,"},
      {8, 4, 1, "reserved byte at offset 8 is 1,"},
      {8, 4, 0x80000000, "reserved byte at offset 11 is 128,"},
      {12, 4, 0, "link is 0,"},
      {16, 8, 0, "session is 0,"},
      {24, 8, 0, "epoch is 0,"},
      {32, 8, 9, "base_epoch is 9, must be below epoch, 9"},
      {32, 8, UINT64_MAX, "base_epoch is 18446744073709551615,"},
      {40, 8, UINT64_MAX - 1, "first_position is 18446744073709551614,"},
      {48, 4, 9, "ring_slots_used is 9,"},
      {52, 4, 8, "extent_count is 2, must be as many as the chunks need, 3"},
      {52, 4, 1, "ring_slots_used is 2, must be at most ring_slots and chunk_count, 1"},
      {56, 8, 20001, "payload_bytes is 20001, must be a multiple of 16"},
      {56, 8, 5 * 65472 + 16, "payload_bytes is 327376, must be at most 327360"},
      {56, 8, UINT64_MAX - 15, "payload_bytes is 18446744073709551600,"},
      {56, 8, 0, "frame_count is 7, must be at most 0"},
      {64, 8, 1251, "frame_count is 1251, must be at most 1250"},
      {64, 8, UINT64_MAX, "frame_count is 18446744073709551615,"},
      {64, 8, 4, "frame_count is 4, must be at least 5"},
      {72, 8, (uint64_t{2} << 32) + 1, "page_count is 8589934593, must be at most 8589934592"},
      {80, 2, 0, "domain_count is 0,"},
      {80, 2, 17, "domain_count is 17,"},
      {80, 2, 8, "frame_count is 7, must be at least 8"},
      {82, 2, 65, "extent_count is 65,"},
      {88, 4, 4, "extent is 4, must be below 4"},
      {88, 4, 1, "extent is 1, must be named only once"},
      {96, 4, 7, "unused extent is 7,"},
      {340, 4, 7, "unused extent is 7,"},
      {344, 4, 1, "reserved byte at offset 344 is 1,"},
      {344, 4, 0x1000000, "reserved byte at offset 347 is 1,"},
  };
  for (const Damage& damage : cases) {
    std::vector<std::byte> bytes = FromHex(kRecord);
    Poke(bytes, damage.offset, damage.width, damage.value);
    RepairSection(bytes);
    CommitRecord out;
    const absl::Status status = DecodeCommitRecord(bytes, kGeometry, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damage.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr("commit record: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(damage.error));
    EXPECT_EQ(out, CommitRecord()) << "changed by a failed decode";
  }
}

TEST(CommitRecordTest, AnEpochWithoutChunksHasNoContent) {
  const Damage cases[] = {
      {56, 8, 16, "payload_bytes is 16, must be at most 0"},
      {64, 8, 1, "frame_count is 1, must be at most 0"},
      {72, 8, 1, "page_count is 1, must be at most 0"},
      {84, 4, 5, "chunks_crc is 5, must be 0 without a chunk"},
      {6, 2, 2, "frame_count is 0, must be at least 1"},  // A checkpoint.
  };
  for (const Damage& damage : cases) {
    std::array<std::byte, kCommitRecordBytes> bytes;
    EncodeCommitRecord({.session = 1, .link = 1, .epoch = 1, .domain_count = 1}, bytes);
    Poke(bytes, damage.offset, damage.width, damage.value);
    RepairSection(bytes);
    CommitRecord out;
    const absl::Status status = DecodeCommitRecord(bytes, kGeometry, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damage.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(damage.error));
  }
}

TEST(CommitRecordTest, EveryFlippedBitIsSeen) {
  for (size_t bit = 0; bit < kCommitRecordBytes * 8; ++bit) {
    std::vector<std::byte> bytes = FromHex(kRecord);
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    CommitRecord out;
    EXPECT_EQ(DecodeCommitRecord(bytes, kGeometry, &out).code(), absl::StatusCode::kDataLoss)
        << "bit " << bit;
  }
}

TEST(CommitRecordTest, UntouchedIsNotFoundTornIsDataLossShortIsRefused) {
  CommitRecord out;
  std::vector<std::byte> bytes(kCommitRecordBytes);
  EXPECT_EQ(DecodeCommitRecord(bytes, kGeometry, &out).code(), absl::StatusCode::kNotFound);
  const std::vector<std::byte> whole = FromHex(kRecord);
  std::copy_n(whole.begin(), 200, bytes.begin());
  EXPECT_EQ(DecodeCommitRecord(bytes, kGeometry, &out).code(), absl::StatusCode::kDataLoss);
  const absl::Status status =
      DecodeCommitRecord(std::span(whole).first(kCommitRecordBytes - 1), kGeometry, &out);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("length in bytes is 351,"));
}

TEST(CommitRecordDeathTest, TooManyExtentsAreACallersBug) {
  CommitRecord record = Sample();
  record.placement.extent_count = kMaxEpochExtents + 1;
  std::array<std::byte, kCommitRecordBytes> bytes;
  EXPECT_DEATH(EncodeCommitRecord(record, bytes), "extent_count");
}

}  // namespace
}  // namespace haven
