// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/frame.h"

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

constexpr char kZeroRun[] =
    "02"                 // type
    "00"                 // flags
    "0300"               // domain
    "07000000"           // pages
    "efcdab8967452301";  // first frame number

constexpr char kState[] =
    "03"                       // type
    "00"                       // flags
    "0100"                     // domain
    "05000000"                 // bytes
    "0b000000"                 // offset
    "10000000"                 // total
    "68656c6c6f"               // fragment
    "0000000000000000000000";  // padding

constexpr char kCoded[] =
    "04"                       // type
    "00"                       // flags
    "0100"                     // domain
    "02000000"                 // pages
    "fffffffe"                 // first frame number
    "05000000"                 // bytes
    "68656c6c6f"               // body
    "0000000000000000000000";  // padding

std::vector<std::byte> RawRun(uint32_t pages, size_t body_pages) {
  std::vector<std::byte> payload(kFrameHeaderBytes + body_pages * kPageBytes, std::byte{0xab});
  EncodeFrameHeader(FrameType::kRawRun, 2, pages, 0x1000, std::span(payload).first<16>());
  return payload;
}

TEST(FrameTest, HeaderEncodesToTheDocumentedBytes) {
  std::array<std::byte, kFrameHeaderBytes> header;
  EncodeFrameHeader(FrameType::kZeroRun, 3, 7, 0x0123456789abcdef, header);
  EXPECT_EQ(ToHex(header), kZeroRun);
  EncodeFrameHeader(FrameType::kState, 1, 5, uint64_t{16} << 32 | 11, header);
  EXPECT_EQ(ToHex(header), std::string(kState).substr(0, 32));
  EncodeFrameHeader(FrameType::kRawRun, 2, 1, 0x1000, header);
  EXPECT_EQ(ToHex(header), "01000200010000000010000000000000");
}

TEST(FrameTest, BodiesArePaddedTo16) {
  EXPECT_EQ(PaddedBodyBytes(0), 0u);
  EXPECT_EQ(PaddedBodyBytes(1), 16u);
  EXPECT_EQ(PaddedBodyBytes(16), 16u);
  EXPECT_EQ(PaddedBodyBytes(17), 32u);
  EXPECT_EQ(PaddedBodyBytes(uint64_t{UINT32_MAX} * kPageBytes), uint64_t{UINT32_MAX} * kPageBytes);
}

TEST(FrameCursorTest, WalksTheDocumentedBytes) {
  std::vector<std::byte> payload = FromHex(std::string(kZeroRun) + kState);
  const std::vector<std::byte> raw = RawRun(2, 2);
  payload.insert(payload.end(), raw.begin(), raw.end());

  FrameCursor cursor(payload);
  Frame frame;
  ASSERT_TRUE(cursor.Next(&frame));
  EXPECT_EQ(frame.type, FrameType::kZeroRun);
  EXPECT_EQ(frame.domain, 3);
  EXPECT_EQ(frame.count, 7u);
  EXPECT_EQ(frame.first_gfn(), 0x0123456789abcdefu);
  EXPECT_TRUE(frame.body.empty());

  ASSERT_TRUE(cursor.Next(&frame));
  EXPECT_EQ(frame.type, FrameType::kState);
  EXPECT_EQ(frame.domain, 1);
  EXPECT_EQ(frame.state_offset(), 11u);
  EXPECT_EQ(frame.state_total(), 16u);
  EXPECT_EQ(ToHex(frame.body), "68656c6c6f");

  ASSERT_TRUE(cursor.Next(&frame));
  EXPECT_EQ(frame.type, FrameType::kRawRun);
  EXPECT_EQ(frame.first_gfn(), 0x1000u);
  EXPECT_EQ(frame.count, 2u);
  EXPECT_EQ(frame.body.data(), payload.data() + 64);
  EXPECT_EQ(frame.body.size(), 2 * kPageBytes);

  EXPECT_FALSE(cursor.Next(&frame));
  EXPECT_TRUE(cursor.status().ok());
  EXPECT_EQ(cursor.frame_count(), 3u);
}

// Walks to the end and returns the error.
std::string ErrorOf(std::span<const std::byte> payload) {
  FrameCursor cursor(payload);
  Frame frame;
  while (cursor.Next(&frame)) {
  }
  EXPECT_FALSE(cursor.Next(&frame)) << "goes on after an error";
  EXPECT_EQ(cursor.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(cursor.status().message());
}

TEST(FrameCursorTest, CodedPagesAreABodyOfTheStatedSize) {
  const std::vector<std::byte> payload = FromHex(kCoded);
  FrameCursor cursor(payload);
  Frame frame;
  ASSERT_TRUE(cursor.Next(&frame));
  EXPECT_EQ(frame.type, FrameType::kCodedPages);
  EXPECT_EQ(frame.domain, 1);
  EXPECT_EQ(frame.count, 2u);
  EXPECT_EQ(frame.first_gfn(), 0xfeffffffu);
  EXPECT_EQ(ToHex(frame.body), "68656c6c6f");
  EXPECT_FALSE(cursor.Next(&frame));
  EXPECT_TRUE(cursor.status().ok());

  std::vector<std::byte> longer = payload;
  Poke(longer, 12, 4, 17);
  EXPECT_THAT(ErrorOf(longer), HasSubstr("padded body bytes is 32, must be within the payload"));
  Poke(longer, 12, 4, UINT32_MAX);
  EXPECT_THAT(ErrorOf(longer), HasSubstr("padded body bytes is 4294967296,"));
}

TEST(FrameCursorTest, AnEmptyPayloadHasNoFrames) {
  FrameCursor cursor(std::span<const std::byte>{});
  Frame frame;
  EXPECT_FALSE(cursor.Next(&frame));
  EXPECT_TRUE(cursor.status().ok());
}

struct Damage {
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

// The sample is a zero run, at offset 0, and a state, at offset 16.
TEST(FrameCursorTest, EachWrongFieldIsNamedWithItsFrame) {
  const Damage cases[] = {
      {0, 1, 0, "frame 0 at payload offset 0: type is 0,"},
      {16, 1, 5, "frame 1 at payload offset 16: type is 5,"},
      {16, 1, 255, "frame 1 at payload offset 16: type is 255,"},
      {1, 1, 1, "flags is 1, must be 0"},
      {4, 4, 0, "count is 0, must be at least 1"},
      {8, 8, UINT64_MAX - 6, "first frame number is 18446744073709551609, must be without wrap"},
      {20, 4, 0, "frame 1 at payload offset 16: count is 0,"},
      {20, 4, 6, "state fragment's end is 17, must be within the total"},
      {20, 4, UINT32_MAX, "state fragment's end is 4294967306,"},
      {24, 4, 12, "state fragment's end is 17,"},
      {24, 4, UINT32_MAX, "state fragment's end is 4294967300,"},
      {28, 4, 15, "state fragment's end is 16,"},
      {28, 4, 0, "state fragment's end is 16,"},
      {37, 1, 1, "padding is 1, must be 0"},
      {47, 1, 9, "padding is 9, must be 0"},
  };
  for (const Damage& damage : cases) {
    std::vector<std::byte> payload = FromHex(std::string(kZeroRun) + kState);
    Poke(payload, damage.offset, damage.width, damage.value);
    EXPECT_THAT(ErrorOf(payload), HasSubstr(damage.error));
  }
}

TEST(FrameCursorTest, TheLastFrameNumberOfAllIsNoWrap) {
  std::vector<std::byte> payload = FromHex(kZeroRun);
  Poke(payload, 8, 8, UINT64_MAX - 7);
  FrameCursor cursor(payload);
  Frame frame;
  EXPECT_TRUE(cursor.Next(&frame));
}

TEST(FrameCursorTest, BodiesBeyondThePayloadAreRefused) {
  EXPECT_THAT(ErrorOf(RawRun(2, 1)), HasSubstr("padded body bytes is 8192,"));
  EXPECT_THAT(ErrorOf(RawRun(UINT32_MAX, 1)), HasSubstr("padded body bytes is 17592186040320,"));
  const std::vector<std::byte> state = FromHex(kState);
  for (size_t length = 17; length < state.size(); ++length) {
    EXPECT_THAT(ErrorOf(std::span(state).first(length)), HasSubstr("padded body bytes is 16,"));
  }
}

TEST(FrameCursorTest, ATruncatedHeaderIsRefused) {
  const std::vector<std::byte> payload = FromHex(kZeroRun);
  for (size_t length = 1; length < kFrameHeaderBytes; ++length) {
    EXPECT_THAT(ErrorOf(std::span(payload).first(length)),
                HasSubstr("header is " + std::to_string(length) + ", must be 16 bytes long"));
  }
}

TEST(FrameCursorTest, RandomBytesNeverLeadOutOfThePayload) {
  Random random(5);
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> payload(16 * (1 + random.Below(20)));
    random.Fill(payload);
    // Mostly valid types, small counts and no flags: else nearly everything ends at the first
    // frame.
    for (size_t at = 0; at < payload.size(); at += 16) {
      payload[at] = static_cast<std::byte>(1 + random.Below(4));
      payload[at + 1] = std::byte{0};
      Poke(payload, at + 4, 4, random.Below(40));
      if (random.Chance(1, 2)) Poke(payload, at + 8, 8, uint64_t{100} << 32 | random.Below(40));
    }
    FrameCursor cursor(payload);
    Frame frame;
    while (cursor.Next(&frame)) {
      if (frame.body.empty()) continue;
      EXPECT_GE(frame.body.data(), payload.data());
      EXPECT_LE(frame.body.data() + frame.body.size(), payload.data() + payload.size());
    }
  }
}

}  // namespace
}  // namespace haven
