// SPDX-License-Identifier: Apache-2.0
#include "xen/base/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/base/byte_order.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(XenRecordsTest, ARecordHasTypeLengthBodyAndZerosUpToEight) {
  std::vector<std::byte> room(64, std::byte{0xee});
  XenRecordWriter writer(room);
  writer.Put(XenRecordType::kHvmContext, Bytes({1, 2, 3}));
  writer.Put(XenRecordType::kStaticDataEnd, {});
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(std::vector<std::byte>(writer.written().begin(), writer.written().end()),
            Bytes({9, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(room[24], std::byte{0xee});
}

TEST(XenRecordsTest, ABodyWrittenInPlaceIsLikeOnePut) {
  std::vector<std::byte> put(40);
  std::vector<std::byte> begun(40);
  const std::vector<std::byte> body = Bytes({7, 8, 9, 10, 11});
  XenRecordWriter first(put);
  first.Put(XenRecordType::kHvmParams, body);
  XenRecordWriter second(begun);
  const std::span<std::byte> room = second.Begin(XenRecordType::kHvmParams);
  EXPECT_EQ(room.size(), 32u);
  std::copy(body.begin(), body.end(), room.begin());
  second.End(body.size());
  EXPECT_EQ(put, begun);
  EXPECT_EQ(second.written().size(), 16u);
}

TEST(XenRecordsTest, WhatDoesNotFitFailsForGood) {
  for (size_t bytes = 0; bytes < 24; ++bytes) {
    std::vector<std::byte> room(bytes);
    XenRecordWriter writer(room);
    writer.Put(XenRecordType::kHvmContext, std::vector<std::byte>(9));
    EXPECT_FALSE(writer.ok()) << bytes;
    EXPECT_TRUE(writer.written().empty());
    writer.Put(XenRecordType::kEnd, {});
    EXPECT_FALSE(writer.ok()) << bytes;
    EXPECT_TRUE(writer.Begin(XenRecordType::kEnd).empty());
  }
}

TEST(XenRecordsTest, TheRoomOfABodyIsAMultipleOfEight) {
  std::vector<std::byte> room(8 + 15);
  XenRecordWriter writer(room);
  const size_t body = writer.Begin(XenRecordType::kHvmContext).size();
  EXPECT_EQ(body, 8u);
  writer.End(body);
  EXPECT_TRUE(writer.ok());
}

TEST(XenRecordsTest, ReadsBackWhatWasWritten) {
  std::vector<std::byte> room(256);
  XenRecordWriter writer(room);
  const std::vector<std::byte> body = Bytes({1, 2, 3, 4, 5, 6, 7, 8, 9});
  writer.Put(XenRecordType::kX86TscInfo, body);
  writer.Put(static_cast<XenRecordType>(0x80001234), {});
  XenRecordReader reader(writer.written());
  XenRecord record;
  ASSERT_TRUE(reader.Next(record).ok());
  EXPECT_EQ(record.type, 8u);
  EXPECT_TRUE(std::equal(record.body.begin(), record.body.end(), body.begin(), body.end()));
  EXPECT_FALSE(reader.done());
  ASSERT_TRUE(reader.Next(record).ok());
  EXPECT_EQ(record.type, 0x80001234u);
  EXPECT_TRUE(record.body.empty());
  EXPECT_TRUE(reader.done());
}

TEST(XenRecordsTest, EveryCutIsRefused) {
  std::vector<std::byte> room(64);
  XenRecordWriter writer(room);
  writer.Put(XenRecordType::kHvmContext, Bytes({1, 2, 3, 4, 5}));
  for (size_t bytes = 1; bytes < writer.written().size(); ++bytes) {
    XenRecordReader reader(writer.written().first(bytes));
    XenRecord record;
    EXPECT_TRUE(absl::IsInvalidArgument(reader.Next(record))) << bytes;
  }
}

TEST(XenRecordsTest, HostileLengthsAndPaddingAreRefused) {
  for (const uint32_t length : {9u, 16u, 0x08000001u, 0xfffffff8u, 0xffffffffu}) {
    std::vector<std::byte> bytes(16);
    StoreLe32(bytes.data() + 4, length);
    XenRecordReader reader(bytes);
    XenRecord record;
    EXPECT_TRUE(absl::IsInvalidArgument(reader.Next(record))) << length;
  }
  std::vector<std::byte> padded = Bytes({9, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1});
  XenRecordReader reader(padded);
  XenRecord record;
  const absl::Status read = reader.Next(record);
  EXPECT_TRUE(absl::IsInvalidArgument(read));
  EXPECT_THAT(std::string(read.message()), HasSubstr("padding"));
}

TEST(XenRecordsTest, ExpectNamesWhatIsThereInstead) {
  std::vector<std::byte> room(8);
  XenRecordWriter writer(room);
  writer.Put(XenRecordType::kStaticDataEnd, {});
  std::span<const std::byte> body;
  XenRecordReader other(room);
  EXPECT_THAT(std::string(other.Expect(XenRecordType::kHvmContext, body).message()),
              HasSubstr("is 0x10, must be 0x9"));
  XenRecordReader right(room);
  EXPECT_TRUE(right.Expect(XenRecordType::kStaticDataEnd, body).ok());
  EXPECT_THAT(std::string(right.Expect(XenRecordType::kEnd, body).message()),
              HasSubstr("end at byte 8"));
}

}  // namespace
}  // namespace haven
