// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/peer_block.h"

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

constexpr char kAck[] =
    "4856414b"                                                          // magic "HVAK"
    "0100"                                                              // version
    "0000"                                                              // reserved
    "8877665544332211"                                                  // session
    "03000000"                                                          // link
    "02000000"                                                          // state: standby
    "0900000000000000"                                                  // committed epoch
    "0800000000000000"                                                  // applied epoch
    "3412000000000000"                                                  // ring tail
    "4d00000000000000"                                                  // credits granted
    "0000000000000000000000000000000000000000000000000000000000000000"  // reserved
    "0000000000000000000000000000000000000000000000000000000000000000"  // reserved ...
    "00000000"                                                          // reserved ...
    "080ac4e4";                                                         // CRC32C

constexpr Ack kSample = {.session = 0x1122334455667788,
                         .link = 3,
                         .state = BackupState::kStandby,
                         .committed_epoch = 9,
                         .applied_epoch = 8,
                         .ring_tail = 0x1234,
                         .credits_granted = 77};

TEST(AckTest, EncodesToTheDocumentedBytes) {
  std::array<std::byte, kAckBytes> bytes;
  bytes.fill(std::byte{0xee});
  EncodeAck(kSample, bytes);
  EXPECT_EQ(ToHex(bytes), kAck);
}

TEST(AckTest, DecodesTheDocumentedBytes) {
  Ack ack;
  ASSERT_TRUE(DecodeAck(FromHex(kAck), &ack).ok());
  EXPECT_EQ(ack, kSample);
}

TEST(AckTest, RandomValuesSurviveTheRoundTrip) {
  Random random(2);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t committed = random.Next() >> random.Below(64);
    const Ack sent = {.session = random.Next() | 1,
                      .link = static_cast<uint32_t>(random.Next()) | 1,
                      .state = static_cast<BackupState>(1 + random.Below(5)),
                      .committed_epoch = committed,
                      .applied_epoch = random.Chance(1, 2) ? committed : committed / 2,
                      .ring_tail = random.Next(),
                      .credits_granted = random.Next()};
    std::array<std::byte, kAckBytes> bytes;
    EncodeAck(sent, bytes);
    Ack read;
    ASSERT_TRUE(DecodeAck(bytes, &read).ok());
    EXPECT_EQ(read, sent);
  }
}

struct Damage {
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

TEST(AckTest, EachWrongFieldIsNamed) {
  const Damage cases[] = {
      {0, 4, 0x50485648, "magic is 1346917960,"},  // A heartbeat's.
      {4, 2, 9, "version is 9,"},
      {6, 1, 1, "reserved byte at offset 6 is 1,"},
      {8, 8, 0, "session is 0,"},
      {16, 4, 0, "link is 0,"},
      {20, 4, 0, "state is 0,"},
      {20, 4, 6, "state is 6,"},
      {32, 8, 10, "applied_epoch is 10, must be at most committed_epoch, 9"},
      {24, 8, 0, "applied_epoch is 8, must be at most committed_epoch, 0"},
      {56, 1, 1, "reserved byte at offset 56 is 1,"},
      {123, 1, 128, "reserved byte at offset 123 is 128,"},
  };
  for (const Damage& damage : cases) {
    std::vector<std::byte> bytes = FromHex(kAck);
    Poke(bytes, damage.offset, damage.width, damage.value);
    RepairSection(bytes);
    Ack out;
    const absl::Status status = DecodeAck(bytes, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damage.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr("acknowledgement: " + damage.error));
    EXPECT_EQ(out, Ack()) << "changed by a failed decode";
  }
}

// A newer acknowledgement that has landed up to any byte over an older one.
TEST(AckTest, EveryTearBetweenTwoAcknowledgementsIsSeen) {
  Ack newer = kSample;
  newer.committed_epoch = 10;
  newer.applied_epoch = 9;
  newer.ring_tail = 0x1240;
  std::array<std::byte, kAckBytes> after;
  EncodeAck(newer, after);
  const std::vector<std::byte> before = FromHex(kAck);
  for (size_t landed = 0; landed <= kAckBytes; ++landed) {
    std::vector<std::byte> torn = before;
    std::copy_n(after.begin(), landed, torn.begin());
    Ack out;
    const absl::Status status = DecodeAck(torn, &out);
    if (std::equal(torn.begin(), torn.end(), before.begin())) {
      EXPECT_EQ(out, kSample) << landed;
    } else if (std::equal(torn.begin(), torn.end(), after.begin())) {
      EXPECT_EQ(out, newer) << landed;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << landed;
    }
  }
}

TEST(AckTest, UntouchedIsNotFoundAndShortIsRefused) {
  const std::vector<std::byte> untouched(kAckBytes);
  Ack out;
  EXPECT_EQ(DecodeAck(untouched, &out).code(), absl::StatusCode::kNotFound);
  const absl::Status status = DecodeAck(std::span(untouched).first(127), &out);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("length in bytes is 127,"));
}

}  // namespace
}  // namespace haven
