// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/state.h"

#include <string>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/crc32c.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

SyntheticSpec SpecOf(uint32_t vcpus) {
  SyntheticSpec spec;
  spec.vcpus = vcpus;
  return spec;
}

SyntheticState SomeState(uint32_t vcpus) {
  SyntheticState state;
  state.generation = 3;
  state.stops = 70;
  state.next_sequence = 512;
  for (uint32_t i = 0; i < vcpus; ++i) state.vcpus[i] = {1000 + i, 0xfeed0000 + i};
  return state;
}

std::vector<std::byte> Encode(uint32_t vcpus) {
  std::vector<std::byte> record(kSyntheticMaxStateBytes);
  record.resize(*EncodeSyntheticState(SpecOf(vcpus), SomeState(vcpus), record));
  return record;
}

// Makes the CRC fit again after a change.
void Sign(std::vector<std::byte>& record) {
  const size_t at = record.size() - 8;
  StoreLe32(record.data() + at, Crc32c(std::span(record).first(at)));
}

TEST(SyntheticStateTest, ARecordIsReadBackUnchanged) {
  for (uint32_t vcpus = 1; vcpus <= kSyntheticMaxVcpus; ++vcpus) {
    const std::vector<std::byte> record = Encode(vcpus);
    EXPECT_EQ(record.size(), SyntheticStateBytes(vcpus));
    const absl::StatusOr<SyntheticState> state = DecodeSyntheticState(SpecOf(vcpus), record);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(*state, SomeState(vcpus));
  }
}

TEST(SyntheticStateTest, TooLittleRoomIsReported) {
  std::vector<std::byte> room(SyntheticStateBytes(2) - 1);
  EXPECT_EQ(EncodeSyntheticState(SpecOf(2), SomeState(2), room).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(SyntheticStateTest, EverySingleFlippedBitIsNoticed) {
  std::vector<std::byte> record = Encode(2);
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    record[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_EQ(DecodeSyntheticState(SpecOf(2), record).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bit;
    record[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}

TEST(SyntheticStateTest, EveryWrongLengthIsNoticed) {
  std::vector<std::byte> record = Encode(2);
  for (size_t bytes = 0; bytes < record.size(); ++bytes) {
    EXPECT_FALSE(DecodeSyntheticState(SpecOf(2), std::span(record).first(bytes)).ok());
  }
  record.push_back(std::byte{0});
  EXPECT_FALSE(DecodeSyntheticState(SpecOf(2), record).ok());
}

TEST(SyntheticStateTest, AnotherGuestsStateIsRefused) {
  SyntheticSpec other = SpecOf(2);
  other.name = "other";
  const absl::Status status = DecodeSyntheticState(other, Encode(2)).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("state of another guest"));
  EXPECT_FALSE(DecodeSyntheticState(SpecOf(1), Encode(2)).ok());
}

TEST(SyntheticStateTest, SignedRecordsWithValuesOutOfRangeAreRefusedByField) {
  struct Change {
    size_t at;
    uint64_t value;
    const char* said;
  };
  for (const Change& change :
       {Change{16, 0, "generation"}, Change{32, 0, "next sequence"},
        Change{32, uint64_t{1} << 63, "next sequence"}, Change{40, UINT64_MAX, "writes of vCPU 0"},
        Change{56, UINT64_MAX, "writes of vCPU 1"}}) {
    std::vector<std::byte> record = Encode(2);
    if (change.at == 16) {
      StoreLe32(record.data() + change.at, static_cast<uint32_t>(change.value));
    } else {
      StoreLe64(record.data() + change.at, change.value);
    }
    Sign(record);
    const absl::Status status = DecodeSyntheticState(SpecOf(2), record).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(change.said));
  }
}

}  // namespace
}  // namespace haven
