// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/xbzrle.h"

#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using Page = std::vector<std::byte>;
std::span<std::byte, kPageBytes> Whole(Page& page) {
  return std::span<std::byte, kPageBytes>(page);
}

std::vector<std::byte> Encode(Page& before, Page& after) {
  std::vector<std::byte> out(2 * kPageBytes);
  const std::optional<size_t> bytes = XbzrleEncode(Whole(before), Whole(after), out);
  EXPECT_TRUE(bytes.has_value());
  out.resize(bytes.value_or(0));
  return out;
}

// The example of QEMU's documentation: 1000 zeros, 5 to 9 after 1, then zeros.
TEST(Xbzrle, EncodesTheDocumentedExample) {
  Page before(kPageBytes);
  Page after(kPageBytes);
  for (size_t i = 0; i < 6; ++i) before[1000 + i] = static_cast<std::byte>(i + 5);
  before[1009] = before[1010] = std::byte{5};
  after = before;
  for (size_t i = 0; i < 4; ++i) after[1000 + i] = static_cast<std::byte>(i + 1);
  after[1010] = std::byte{3};
  const std::vector<std::byte> expected = {
      std::byte{0xe8}, std::byte{0x07}, std::byte{4}, std::byte{1}, std::byte{2},
      std::byte{3},    std::byte{4},    std::byte{6}, std::byte{1}, std::byte{3}};
  EXPECT_EQ(Encode(before, after), expected);
}

TEST(Xbzrle, NothingChangedIsEmpty) {
  Page page(kPageBytes, std::byte{7});
  EXPECT_TRUE(Encode(page, page).empty());
}

TEST(Xbzrle, RandomChangesComeBack) {
  Random random(1);
  for (int round = 0; round < 2000; ++round) {
    Page before(kPageBytes);
    random.Fill(before);
    Page after = before;
    for (uint64_t i = random.Below(300); i > 0; --i) {
      const size_t at = random.Below(kPageBytes);
      const size_t bytes = std::min<size_t>(kPageBytes - at, random.Below(20));
      random.Fill(std::span(after).subspan(at, bytes));
    }
    const std::vector<std::byte> encoded = Encode(before, after);
    ASSERT_TRUE(XbzrleDecode(encoded, Whole(before)));
    ASSERT_EQ(before, after);
  }
}

TEST(Xbzrle, TooLittleRoomIsReported) {
  Page before(kPageBytes);
  Page after(kPageBytes, std::byte{1});
  std::vector<std::byte> out(kPageBytes);
  EXPECT_FALSE(XbzrleEncode(Whole(before), Whole(after), out).has_value());
}

TEST(Xbzrle, MalformedBytesAreRefused) {
  Random random(2);
  Page page(kPageBytes);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes(random.Below(40));
    random.Fill(bytes);
    XbzrleDecode(bytes, Whole(page));
  }
  const auto refused = [&page](std::vector<std::byte> bytes) {
    return !XbzrleDecode(bytes, Whole(page));
  };
  EXPECT_TRUE(refused({std::byte{1}}));
  EXPECT_TRUE(refused({std::byte{1}, std::byte{2}, std::byte{3}}));
  EXPECT_TRUE(refused({std::byte{1}, std::byte{0}}));
  EXPECT_TRUE(refused({std::byte{0xff}, std::byte{0x80}, std::byte{1}, std::byte{1}}));
  EXPECT_TRUE(refused({std::byte{0x80}, std::byte{0x20}, std::byte{1}, std::byte{1}}));
}

}  // namespace
}  // namespace haven
