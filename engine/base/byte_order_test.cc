// SPDX-License-Identifier: Apache-2.0
#include "engine/base/byte_order.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(ByteOrderTest, StoresTheLowestByteFirst) {
  std::array<uint8_t, 15> bytes{};
  StoreU8(bytes.data(), 0x01);
  StoreLe16(bytes.data() + 1, 0x0302);
  StoreLe32(bytes.data() + 3, 0x07060504);
  StoreLe64(bytes.data() + 7, 0x0f0e0d0c0b0a0908);
  for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], i + 1) << i;
}

TEST(ByteOrderTest, LoadsWhatWasStoredAtAnyAlignment) {
  std::array<std::byte, 16> bytes{};
  for (size_t at = 0; at <= 8; ++at) {
    StoreLe64(bytes.data() + at, 0x8899aabbccddeeff);
    EXPECT_EQ(LoadLe64(bytes.data() + at), 0x8899aabbccddeeff);
    EXPECT_EQ(LoadLe32(bytes.data() + at), 0xccddeeff);
    EXPECT_EQ(LoadLe16(bytes.data() + at), 0xeeff);
    EXPECT_EQ(LoadU8(bytes.data() + at), 0xff);
  }
}

TEST(ByteWriterTest, WritesFieldsInOrderUpToTheLastByte) {
  std::array<std::byte, 20> room{};
  ByteWriter writer(room);
  writer.PutU8(1);
  writer.PutU16(2);
  writer.PutU32(3);
  writer.PutU64(4);
  const std::array<std::byte, 2> tail{std::byte{0xaa}, std::byte{0xbb}};
  writer.PutBytes(tail);
  writer.PutZeros(3);
  EXPECT_TRUE(writer.ok());
  EXPECT_EQ(writer.position(), 20u);
  EXPECT_EQ(writer.remaining(), 0u);
  EXPECT_EQ(writer.written().size(), 20u);

  ByteReader reader(room);
  EXPECT_EQ(reader.GetU8(), 1);
  EXPECT_EQ(reader.GetU16(), 2);
  EXPECT_EQ(reader.GetU32(), 3u);
  EXPECT_EQ(reader.GetU64(), 4u);
  EXPECT_EQ(reader.GetBytes(2)[1], std::byte{0xbb});
  EXPECT_FALSE(reader.done());
  reader.Skip(3);
  EXPECT_TRUE(reader.done());
}

TEST(ByteWriterTest, AFieldThatDoesNotFitIsNotWrittenInPartAndTheFailureStays) {
  std::array<std::byte, 6> room{};
  ByteWriter writer(std::span<std::byte>(room).first(5));
  writer.PutU8(0xff);
  writer.PutU64(UINT64_MAX);
  EXPECT_FALSE(writer.ok());
  EXPECT_EQ(writer.position(), 1u);
  EXPECT_EQ(writer.remaining(), 0u);
  writer.PutU8(0xff);
  writer.PutBytes({});
  writer.PutZeros(0);
  EXPECT_FALSE(writer.ok());
  EXPECT_EQ(writer.written().size(), 1u);
  for (size_t i = 1; i < room.size(); ++i) EXPECT_EQ(room[i], std::byte{0}) << i;
}

TEST(ByteWriterTest, ZerosAndBytesRespectTheEnd) {
  std::array<std::byte, 4> room;
  room.fill(std::byte{0x55});
  ByteWriter zeros(std::span<std::byte>(room).first(3));
  zeros.PutZeros(4);
  EXPECT_FALSE(zeros.ok());
  ByteWriter bytes(std::span<std::byte>(room).first(3));
  bytes.PutBytes(room);
  EXPECT_FALSE(bytes.ok());
  for (const std::byte b : room) EXPECT_EQ(b, std::byte{0x55});
}

TEST(ByteWriterTest, NoRoomAtAllTakesOnlyEmptyFields) {
  ByteWriter writer({});
  writer.PutBytes({});
  writer.PutZeros(0);
  EXPECT_TRUE(writer.ok());
  writer.PutU8(0);
  EXPECT_FALSE(writer.ok());
}

TEST(ByteReaderTest, ReadingPastTheEndYieldsZeroAndTheFailureStays) {
  const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  ByteReader reader(bytes);
  EXPECT_EQ(reader.GetU16(), 0x0201);
  EXPECT_EQ(reader.remaining(), 1u);
  EXPECT_EQ(reader.GetU32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_EQ(reader.GetU8(), 0);
  EXPECT_TRUE(reader.GetBytes(0).empty());
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.position(), 2u);
}

TEST(ByteReaderTest, HugeLengthsDoNotWrapAround) {
  const std::array<std::byte, 3> bytes{};
  ByteReader reader(bytes);
  reader.GetU8();
  EXPECT_TRUE(reader.GetBytes(SIZE_MAX).empty());
  EXPECT_FALSE(reader.ok());
  ByteReader skipper(bytes);
  skipper.GetU8();
  skipper.Skip(SIZE_MAX);
  EXPECT_FALSE(skipper.ok());
}

TEST(ByteReaderTest, NothingToReadIsDone) {
  ByteReader reader({});
  EXPECT_TRUE(reader.done());
  EXPECT_TRUE(reader.GetBytes(0).empty());
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(reader.GetU64(), 0u);
  EXPECT_FALSE(reader.done());
}

}  // namespace
}  // namespace haven
