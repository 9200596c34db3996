// SPDX-License-Identifier: Apache-2.0
#include "engine/base/crc32c.h"

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

std::span<const std::byte> Bytes(absl::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The definition, one bit at a time.
uint32_t BitwiseCrc32c(std::span<const std::byte> bytes) {
  uint32_t crc = 0xffffffff;
  for (const std::byte b : bytes) {
    crc ^= static_cast<uint32_t>(b);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~crc;
}

TEST(Crc32cTest, StandardCheckValue) { EXPECT_EQ(Crc32c(Bytes("123456789")), 0xe3069283); }

// RFC 3720, appendix B.4.
TEST(Crc32cTest, Rfc3720Vectors) {
  std::array<std::byte, 32> bytes{};
  EXPECT_EQ(Crc32c(bytes), 0x8a9136aa);
  bytes.fill(std::byte{0xff});
  EXPECT_EQ(Crc32c(bytes), 0x62a8ab43);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  EXPECT_EQ(Crc32c(bytes), 0x46dd794e);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(31 - i);
  EXPECT_EQ(Crc32c(bytes), 0x113fdb5c);
}

TEST(Crc32cTest, NoBytes) {
  EXPECT_EQ(Crc32c({}), 0u);
  EXPECT_EQ(ExtendCrc32c(0x12345678, {}), 0x12345678u);
}

TEST(Crc32cTest, AgreesWithTheDefinitionAtEveryLengthAndAlignment) {
  std::vector<std::byte> bytes(600);
  Random random(7);
  random.Fill(bytes);
  for (size_t start = 0; start < 16; ++start) {
    for (size_t length = 0; start + length <= bytes.size(); length += length < 64 ? 1 : 37) {
      const auto part = std::span(bytes).subspan(start, length);
      ASSERT_EQ(Crc32c(part), BitwiseCrc32c(part)) << start << " " << length;
    }
  }
}

TEST(Crc32cTest, ExtendingEqualsTheWholeAtEverySplit) {
  const auto whole = Bytes("one epoch is committed or it is not");
  for (size_t split = 0; split <= whole.size(); ++split) {
    EXPECT_EQ(ExtendCrc32c(Crc32c(whole.first(split)), whole.subspan(split)), Crc32c(whole));
  }
}

TEST(Crc32cTest, SeesEverySingleBit) {
  std::vector<std::byte> page(4096);
  Random random(11);
  random.Fill(page);
  const uint32_t good = Crc32c(page);
  for (size_t bit = 0; bit < page.size() * 8; bit += 61) {
    page[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_NE(Crc32c(page), good) << bit;
    page[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
}

}  // namespace
}  // namespace haven
