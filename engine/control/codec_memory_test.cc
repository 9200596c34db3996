// SPDX-License-Identifier: Apache-2.0
#include "engine/control/codec_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace haven {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kGiB = uint64_t{1} << 30;

// A host with 1 GiB of memory to spare.
class CodecMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    const std::filesystem::path root =
        std::filesystem::path(testing::TempDir()) / ("codec_memory_" + name);
    std::filesystem::create_directories(root / "proc");
    std::ofstream(root / "proc/meminfo") << "MemAvailable: 1048576 kB\n";
    roots_ = {.proc = root / "proc", .cgroup = root / "cgroup"};
    options_.enabled = true;
    options_.hashes = false;
  }

  // Of a guest with 16 GiB.
  absl::Status Check() const {
    return CheckCodecMemory(options_, {16 * kGiB / kPageBytes}, 2, roots_);
  }

  CodecStageOptions options_;
  MemoryBudgetRoots roots_;
};

TEST_F(CodecMemoryTest, WhatThereIsMayBeTaken) {
  options_.cache_bytes = kGiB / 8;
  options_.max_epoch_pages = 65536;
  EXPECT_TRUE(Check().ok()) << Check();
}

TEST_F(CodecMemoryTest, ACacheBeyondWhatThereIsIsRefused) {
  options_.cache_bytes = 64 * kGiB;  // No more than the guest has is taken of it.
  const absl::Status refused = Check();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(refused.message());
  EXPECT_THAT(message, HasSubstr("the codec"));
  EXPECT_THAT(message, HasSubstr("1073741824 are available"));
  EXPECT_THAT(message, HasSubstr("--codec-cache"));
  EXPECT_THAT(message, HasSubstr("--codec=off"));
  EXPECT_THAT(message, Not(HasSubstr("--codec-hashes")));
}

TEST_F(CodecMemoryTest, SoAreHashesOfAGuestThatIsTooLarge) {
  options_.cache_bytes = 0;
  options_.hashes = true;  // An eighth of the guest, 2 GiB.
  const absl::Status refused = Check();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--block-bytes"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--codec-hashes"));
  options_.hashes = false;
  options_.verify = true;
  EXPECT_THAT(std::string(Check().message()), HasSubstr("--verify-blocks"));
  options_.verify = false;
  EXPECT_TRUE(Check().ok()) << Check();
}

TEST_F(CodecMemoryTest, LargerBlocksNeedLess) {
  options_.cache_bytes = 0;
  options_.hashes = true;
  options_.block_shift = kMaxBlockShift;  // A 32nd of the guest, 512 MiB.
  options_.max_epoch_pages = 65536;
  EXPECT_TRUE(Check().ok()) << Check();
}

TEST_F(CodecMemoryTest, WithoutTheCodecNothingIsWanted) {
  options_.enabled = false;
  options_.cache_bytes = 64 * kGiB;
  EXPECT_TRUE(Check().ok());
}

}  // namespace
}  // namespace haven
