// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/verify.h"

#include <cstring>
#include <string>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/synthetic/layout.h"
#include "engine/synthetic/workload.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

// A guest's memory and state after some writes.
class VerifyTest : public ::testing::Test {
 protected:
  VerifyTest() { Write(5000); }

  void Write(int count) {
    for (int i = 0; i < count; ++i) {
      const uint32_t vcpu = static_cast<uint32_t>(i % 2);
      VcpuWorkload(spec_, layout_, vcpu).Write(memory_, state_.vcpus[vcpu]);
    }
  }

  absl::Status Verify() { return VerifySyntheticImage(spec_, memory_, state_); }

  void ExpectDifferent(const char* said) {
    const absl::Status status = Verify();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr(said));
  }

  // Address of the block that the last write of a vCPU changed.
  std::byte* LastBlock(uint32_t vcpu) {
    const BlockPlace place = VcpuWorkload(spec_, layout_, vcpu).Place(state_.vcpus[vcpu].writes);
    return memory_.Page(place.gfn) + place.offset_bytes;
  }

  const SyntheticSpec spec_ = *ParseSyntheticSpec("synthetic:mem=1M,block=512,vcpus=2,fill=0.25");
  const SyntheticLayout layout_{spec_};
  std::vector<std::byte> bytes_ = std::vector<std::byte>(layout_.bytes());
  const GuestMemory memory_ = layout_.View(bytes_.data());
  SyntheticState state_;
};

TEST_F(VerifyTest, MemoryAndStateOfOneInstantAreEqual) {
  EXPECT_TRUE(Verify().ok()) << Verify();
  Write(1001);
  EXPECT_TRUE(Verify().ok()) << Verify();
}

TEST_F(VerifyTest, AnEmptyGuestIsEqualToItself) {
  std::vector<std::byte> zero(layout_.bytes());
  EXPECT_TRUE(VerifySyntheticImage(spec_, layout_.View(zero.data()), SyntheticState()).ok());
}

TEST_F(VerifyTest, ASingleFlippedBitIsFoundWhereverItIs) {
  // Pages that were written and pages that never were; a prime step visits all parts of a block.
  size_t bit = 0;
  for (uint64_t index = 0; index < layout_.ram_pages(); index += 3) {
    const Gfn gfn = layout_.RamFrame(index);
    bit = (bit + 7919) % (kPageBytes * 8);
    std::byte& byte = memory_.Page(gfn)[bit / 8];
    byte ^= std::byte{1} << (bit % 8);
    ASSERT_EQ(Verify().code(), absl::StatusCode::kDataLoss) << gfn << " " << bit;
    byte ^= std::byte{1} << (bit % 8);
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, TheFirstDifferenceIsNamed) {
  std::byte* const block = LastBlock(1);
  block[100] ^= std::byte{0xff};
  ExpectDifferent("vCPU 1, frame ");
  ExpectDifferent("byte 100 of the block");
}

TEST_F(VerifyTest, AGenuineButOlderBlockIsFound) {
  std::byte* const block = LastBlock(0);
  const std::vector<std::byte> older(block, block + spec_.block_bytes);
  // Until the same block is written again, and something else after it.
  do {
    Write(2);
  } while (LastBlock(0) != block);
  while (LastBlock(0) == block) Write(2);
  ASSERT_TRUE(Verify().ok());
  std::memcpy(block, older.data(), older.size());
  ExpectDifferent("some blocks are older or newer");
}

TEST_F(VerifyTest, AMissingWriteIsFound) {
  std::byte* const block = LastBlock(0);
  std::memset(block, 0, spec_.block_bytes);
  ExpectDifferent("the last write in its memory is ");
}

TEST_F(VerifyTest, AWriteLaterThanTheStateIsFound) {
  const SyntheticState before = state_;
  Write(2);
  state_ = before;
  ExpectDifferent("later than the state's last");
}

TEST_F(VerifyTest, AStateOfAnotherInstantIsFound) {
  state_.vcpus[0].writes += 1;
  ExpectDifferent("the last write in its memory is 2500 instead of 2501");
  state_.vcpus[0].writes -= 1;
  state_.vcpus[0].checksum += 1;
  ExpectDifferent("some blocks are older or newer");
}

TEST_F(VerifyTest, ABlockAtAnotherPlaceIsFound) {
  std::byte* const block = LastBlock(0);
  std::byte* const other = memory_.Page(layout_.RamFrame(0));
  ASSERT_NE(block, other);
  std::memcpy(other, block, spec_.block_bytes);
  ExpectDifferent("whose place is");
}

TEST_F(VerifyTest, FramesKnownToBeZeroAreNotRead) {
  std::vector<uint64_t> zero(memory_.bitmap_words(), 0);
  zero[0] = 1;
  const absl::Status status = VerifySyntheticImage(spec_, memory_, state_, zero);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "frame 0 was filled and is left out";
}

TEST_F(VerifyTest, MemoryOfAnotherSizeIsRefused) {
  const SyntheticSpec larger = *ParseSyntheticSpec("synthetic:mem=2M");
  EXPECT_EQ(VerifySyntheticImage(larger, memory_, state_).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace haven
