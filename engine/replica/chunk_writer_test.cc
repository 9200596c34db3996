// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/chunk_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/base/crc32c.h"
#include "engine/replica/layout.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

constexpr char kChunk[] =
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
    "b3c57aa0"                      // header CRC32C
    "02"                            // zero run
    "00"                            // flags
    "0000"                          // domain
    "03000000"                      // pages
    "0500000000000000"              // first frame number
    "03"                            // state
    "00"                            // flags
    "0000"                          // domain
    "05000000"                      // bytes
    "00000000"                      // offset
    "05000000"                      // total
    "68656c6c6f"                    // fragment
    "0000000000000000000000";       // padding

constexpr ChunkIdentity kIdentity = {.session = 0x1122334455667788,
                                     .link = 3,
                                     .epoch = 9,
                                     .kind = EpochKind::kCheckpoint,
                                     .index = 0};

// A slot full of what an earlier epoch has left.
std::vector<std::byte> UsedSlot(size_t bytes) {
  return std::vector<std::byte>(bytes, std::byte{0xee});
}

TEST(ChunkWriterTest, WritesTheDocumentedBytes) {
  std::vector<std::byte> slot = UsedSlot(kMinSlotBytes);
  ChunkWriter writer(slot);
  EXPECT_TRUE(writer.empty());
  ASSERT_TRUE(writer.AppendZeroRun(0, 5, 3));
  ASSERT_TRUE(writer.AppendState(0, 0, 5, BytesOf("hello")));
  EXPECT_FALSE(writer.empty());
  const ChunkTotals totals = writer.Finish(kIdentity);
  EXPECT_EQ(totals,
            (ChunkTotals{
                .payload_bytes = 48, .frame_count = 2, .page_count = 3, .chunk_crc = 0xa07ac5b3}));
  EXPECT_EQ(ToHex(std::span(slot).first(112)), kChunk);
  EXPECT_TRUE(std::all_of(slot.begin() + 112, slot.end(),
                          [](std::byte b) { return b == std::byte{0xee}; }));
}

TEST(ChunkWriterTest, PagesMayBeFilledInAnyOrderBeforeFinish) {
  std::vector<std::byte> slot = UsedSlot(kMinSlotBytes);
  ChunkWriter writer(slot);
  const std::span<std::byte> first = writer.AppendRawRun(1, 7, 2);
  const std::span<std::byte> second = writer.AppendRawRun(1, 20, 1);
  ASSERT_EQ(first.size(), 2 * kPageBytes);
  ASSERT_EQ(second.size(), kPageBytes);
  std::fill(second.begin(), second.end(), std::byte{2});
  std::fill(first.begin(), first.end(), std::byte{1});
  const ChunkTotals totals = writer.Finish(kIdentity);
  EXPECT_EQ(totals.page_count, 3u);

  ChunkHeader header;
  uint32_t crc = 0;
  ASSERT_TRUE(DecodeChunkHeader(slot, &header, &crc).ok());
  EXPECT_EQ(header.payload_crc, Crc32c(ChunkPayload(slot, header)));
  FrameCursor cursor(ChunkPayload(slot, header));
  Frame frame;
  ASSERT_TRUE(cursor.Next(&frame));
  EXPECT_EQ(frame.first_gfn(), 7u);
  EXPECT_EQ(frame.body.front(), std::byte{1});
  EXPECT_EQ(frame.body.back(), std::byte{1});
  ASSERT_TRUE(cursor.Next(&frame));
  EXPECT_EQ(frame.first_gfn(), 20u);
  EXPECT_EQ(frame.body.front(), std::byte{2});
  EXPECT_FALSE(cursor.Next(&frame));
  EXPECT_TRUE(cursor.status().ok());
}

TEST(ChunkWriterTest, AFullSlotTakesNoMoreAndStaysAsItIs) {
  std::vector<std::byte> slot = UsedSlot(kDefaultSlotBytes);
  ChunkWriter writer(slot);
  EXPECT_EQ(writer.raw_pages_left(), 63u);
  EXPECT_TRUE(writer.AppendRawRun(0, 0, 64).empty());
  EXPECT_TRUE(writer.AppendRawRun(0, 0, UINT32_MAX).empty());
  EXPECT_TRUE(writer.empty());
  ASSERT_EQ(writer.AppendRawRun(0, 0, 63).size(), 63 * kPageBytes);
  EXPECT_EQ(writer.raw_pages_left(), 0u);
  EXPECT_TRUE(writer.AppendRawRun(0, 70, 1).empty());

  const uint32_t left = kDefaultSlotBytes - 64 - 16 - 63 * kPageBytes;
  EXPECT_EQ(writer.state_bytes_left(), left - 16);
  const std::vector<std::byte> state(left);
  EXPECT_FALSE(writer.AppendState(0, 0, left, std::span(state).first(left - 15)));
  ASSERT_TRUE(writer.AppendState(0, 0, left, std::span(state).first(left - 16)));
  EXPECT_EQ(writer.state_bytes_left(), 0u);
  EXPECT_FALSE(writer.zero_run_fits());
  EXPECT_FALSE(writer.AppendZeroRun(0, 71, 1));
  const ChunkTotals totals = writer.Finish(kIdentity);
  EXPECT_EQ(totals, (ChunkTotals{.payload_bytes = kDefaultSlotBytes - 64,
                                 .frame_count = 2,
                                 .page_count = 63,
                                 .chunk_crc = LoadLe32(slot.data() + 60)}));
}

TEST(ChunkWriterTest, AHeaderWithoutRoomForABodyIsNoRoom) {
  std::vector<std::byte> slot = UsedSlot(64 + 16);
  ChunkWriter writer(slot);
  EXPECT_EQ(writer.raw_pages_left(), 0u);
  EXPECT_EQ(writer.state_bytes_left(), 0u);
  EXPECT_TRUE(writer.AppendZeroRun(0, 0, 1));
  EXPECT_FALSE(writer.AppendZeroRun(0, 2, 1));
}

TEST(ChunkWriterTest, WithoutASlotOrAfterFinishEverythingIsFull) {
  ChunkWriter writer;
  EXPECT_FALSE(writer.zero_run_fits());
  EXPECT_EQ(writer.raw_pages_left(), 0u);
  EXPECT_EQ(writer.state_bytes_left(), 0u);
  std::vector<std::byte> slot = UsedSlot(kMinSlotBytes);
  writer.Reset(slot);
  ASSERT_TRUE(writer.AppendZeroRun(0, 0, 1));
  writer.Finish(kIdentity);
  EXPECT_FALSE(writer.zero_run_fits());
  EXPECT_TRUE(writer.AppendRawRun(0, 1, 1).empty());
  writer.Reset(slot);
  EXPECT_TRUE(writer.empty());
  EXPECT_TRUE(writer.AppendZeroRun(0, 0, 1));
}

// An epoch that is sent again under another number keeps its payload.
TEST(ChunkWriterTest, ANewIdentityNeedsOnlyANewHeader) {
  std::vector<std::byte> slot = UsedSlot(kMinSlotBytes);
  ChunkWriter writer(slot);
  ASSERT_TRUE(writer.AppendZeroRun(0, 5, 3));
  writer.Finish(kIdentity);
  ChunkHeader header;
  uint32_t old_crc = 0;
  ASSERT_TRUE(DecodeChunkHeader(slot, &header, &old_crc).ok());
  header.identity.link = 4;
  header.identity.epoch = 10;
  const uint32_t new_crc = EncodeChunkHeader(header, std::span(slot).first<kChunkHeaderBytes>());
  ChunkHeader again;
  uint32_t read_crc = 0;
  ASSERT_TRUE(DecodeChunkHeader(slot, &again, &read_crc).ok());
  EXPECT_EQ(again, header);
  EXPECT_EQ(read_crc, new_crc);
  EXPECT_NE(new_crc, old_crc);
}

TEST(ChunkWriterDeathTest, ACallersBugsEndTheProcess) {
  std::vector<std::byte> slot = UsedSlot(kMinSlotBytes);
  ChunkWriter writer(slot);
  EXPECT_DEATH(writer.Finish(kIdentity), "empty");
  EXPECT_DEATH(static_cast<void>(writer.AppendRawRun(0, 0, 0)), "pages");
  EXPECT_DEATH(static_cast<void>(writer.AppendZeroRun(0, 0, 0)), "pages");
  EXPECT_DEATH(static_cast<void>(writer.AppendState(0, 0, 5, {})), "fragment.size");
  EXPECT_DEATH(static_cast<void>(writer.AppendState(0, 1, 5, BytesOf("hello"))), "total");
  EXPECT_DEATH(writer.Reset(std::span(slot).first(64)), "slot.size");
  EXPECT_DEATH(writer.Reset(std::span(slot).first(88)), "slot.size");
}

}  // namespace
}  // namespace haven
