// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/heartbeat.h"

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

constexpr char kPrimaryHeartbeat[] =
    "48564850"                                                  // magic "HVHP"
    "0100"                                                      // version
    "0000"                                                      // reserved
    "8877665544332211"                                          // session
    "03000000"                                                  // link
    "03000000"                                                  // state: protected
    "0807060504030201"                                          // counter
    "00000000000000000000000000000000000000000000000000000000"  // reserved
    "f3a93090";                                                 // CRC32C

constexpr char kBackupHeartbeat[] =
    "48564842"                                                  // magic "HVHB"
    "0100"                                                      // version
    "0000"                                                      // reserved
    "8877665544332211"                                          // session
    "03000000"                                                  // link
    "02000000"                                                  // state: standby
    "0900000000000000"                                          // counter
    "00000000000000000000000000000000000000000000000000000000"  // reserved
    "1d9d1475";                                                 // CRC32C

constexpr Heartbeat kPrimarySample = {.session = 0x1122334455667788,
                                      .link = 3,
                                      .state = static_cast<uint32_t>(PrimaryState::kProtected),
                                      .counter = 0x0102030405060708};
constexpr Heartbeat kBackupSample = {.session = 0x1122334455667788,
                                     .link = 3,
                                     .state = static_cast<uint32_t>(BackupState::kStandby),
                                     .counter = 9};

std::string Encoded(HeartbeatSender sender, const Heartbeat& heartbeat) {
  std::array<std::byte, kHeartbeatBytes> bytes;
  bytes.fill(std::byte{0xee});
  EncodeHeartbeat(sender, heartbeat, bytes);
  return ToHex(bytes);
}

TEST(HeartbeatTest, EncodesToTheDocumentedBytes) {
  EXPECT_EQ(Encoded(HeartbeatSender::kPrimary, kPrimarySample), kPrimaryHeartbeat);
  EXPECT_EQ(Encoded(HeartbeatSender::kBackup, kBackupSample), kBackupHeartbeat);
}

TEST(HeartbeatTest, DecodesTheDocumentedBytes) {
  Heartbeat heartbeat;
  ASSERT_TRUE(
      DecodeHeartbeat(HeartbeatSender::kPrimary, FromHex(kPrimaryHeartbeat), &heartbeat).ok());
  EXPECT_EQ(heartbeat, kPrimarySample);
  ASSERT_TRUE(
      DecodeHeartbeat(HeartbeatSender::kBackup, FromHex(kBackupHeartbeat), &heartbeat).ok());
  EXPECT_EQ(heartbeat, kBackupSample);
}

TEST(HeartbeatTest, RandomValuesSurviveTheRoundTrip) {
  Random random(1);
  for (int i = 0; i < 1000; ++i) {
    const auto sender = random.Chance(1, 2) ? HeartbeatSender::kPrimary : HeartbeatSender::kBackup;
    const uint32_t states = sender == HeartbeatSender::kPrimary ? 6 : 5;
    const Heartbeat sent = {.session = random.Next() | 1,
                            .link = static_cast<uint32_t>(random.Next()) | 1,
                            .state = 1 + static_cast<uint32_t>(random.Below(states)),
                            .counter = random.Next() | 1};
    std::array<std::byte, kHeartbeatBytes> bytes;
    EncodeHeartbeat(sender, sent, bytes);
    Heartbeat read;
    ASSERT_TRUE(DecodeHeartbeat(sender, bytes, &read).ok());
    EXPECT_EQ(read, sent);
  }
}

struct Damage {
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

TEST(HeartbeatTest, EachWrongFieldIsNamed) {
  const Damage cases[] = {
      {0, 4, 0x42485648, "magic is 1112036936,"},  // The backup's.
      {4, 2, 0, "version is 0,"},
      {4, 2, 2, "version is 2,"},
      {6, 2, 1, "reserved byte at offset 6 is 1,"},
      {6, 2, 0x300, "reserved byte at offset 7 is 3,"},
      {8, 8, 0, "session is 0,"},
      {16, 4, 0, "link is 0,"},
      {20, 4, 0, "state is 0,"},
      {20, 4, 7, "state is 7,"},
      {20, 4, UINT32_MAX, "state is 4294967295,"},
      {24, 8, 0, "counter is 0,"},
      {32, 1, 5, "reserved byte at offset 32 is 5,"},
      {59, 1, 255, "reserved byte at offset 59 is 255,"},
  };
  for (const Damage& damage : cases) {
    std::vector<std::byte> bytes = FromHex(kPrimaryHeartbeat);
    Poke(bytes, damage.offset, damage.width, damage.value);
    RepairSection(bytes);
    Heartbeat out = kBackupSample;
    const absl::Status status = DecodeHeartbeat(HeartbeatSender::kPrimary, bytes, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damage.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr("primary heartbeat: " + damage.error));
    EXPECT_EQ(out, kBackupSample) << "changed by a failed decode";
  }
}

TEST(HeartbeatTest, AStateOfTheOtherSideIsUnknown) {
  const Heartbeat deposed = {.session = 1,
                             .link = 1,
                             .state = static_cast<uint32_t>(PrimaryState::kDeposed),
                             .counter = 1};
  std::array<std::byte, kHeartbeatBytes> bytes;
  EncodeHeartbeat(HeartbeatSender::kBackup, deposed, bytes);
  Heartbeat out;
  const absl::Status status = DecodeHeartbeat(HeartbeatSender::kBackup, bytes, &out);
  EXPECT_THAT(std::string(status.message()), HasSubstr("backup heartbeat: state is 6,"));
}

TEST(HeartbeatTest, EveryFlippedBitIsSeen) {
  for (size_t bit = 0; bit < kHeartbeatBytes * 8; ++bit) {
    std::vector<std::byte> bytes = FromHex(kPrimaryHeartbeat);
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    Heartbeat out;
    EXPECT_EQ(DecodeHeartbeat(HeartbeatSender::kPrimary, bytes, &out).code(),
              absl::StatusCode::kDataLoss)
        << "bit " << bit;
  }
}

TEST(HeartbeatTest, ATornSectionIsDataLossAndAnUntouchedOneNotFound) {
  std::vector<std::byte> torn = FromHex(kPrimaryHeartbeat);
  std::fill(torn.begin() + 28, torn.end(), std::byte{0});
  Heartbeat out;
  const absl::Status status = DecodeHeartbeat(HeartbeatSender::kPrimary, torn, &out);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("CRC32C is 0x00000000, the bytes have 0x"));

  const std::vector<std::byte> untouched(kHeartbeatBytes);
  EXPECT_EQ(DecodeHeartbeat(HeartbeatSender::kPrimary, untouched, &out).code(),
            absl::StatusCode::kNotFound);
}

TEST(HeartbeatTest, AShortSpanIsRefused) {
  const std::vector<std::byte> bytes = FromHex(kPrimaryHeartbeat);
  for (size_t length = 0; length < bytes.size(); ++length) {
    Heartbeat out;
    EXPECT_EQ(
        DecodeHeartbeat(HeartbeatSender::kPrimary, std::span(bytes).first(length), &out).code(),
        absl::StatusCode::kInvalidArgument)
        << length;
  }
}

}  // namespace
}  // namespace haven
