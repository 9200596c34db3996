// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/locked_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "engine/base/file_util.h"
#include "transport/verbs/region_memory.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

TEST(LockedMemory, NoLimitAndTheCapabilityAllowEverything) {
  EXPECT_TRUE(CheckLockedMemory({.limit_bytes = UINT64_MAX}, uint64_t{1} << 60, "x").ok());
  EXPECT_TRUE(CheckLockedMemory({.limit_bytes = 0, .may_exceed = true}, kMiB, "x").ok());
}

TEST(LockedMemory, UpToTheLimit) {
  const LockedMemoryFacts facts = {.limit_bytes = 8 * kMiB, .pinned_bytes = 3 * kMiB};
  EXPECT_TRUE(CheckLockedMemory(facts, 5 * kMiB, "x").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(CheckLockedMemory(facts, 5 * kMiB + 1, "x")));
  EXPECT_TRUE(absl::IsResourceExhausted(CheckLockedMemory(facts, UINT64_MAX, "x")));
}

TEST(LockedMemory, MorePinnedThanTheLimitAllowsIsFull) {
  EXPECT_FALSE(CheckLockedMemory({.limit_bytes = kMiB, .pinned_bytes = 2 * kMiB}, 1, "x").ok());
}

TEST(LockedMemory, TheMessageNamesFiguresAndRemedy) {
  const absl::Status status =
      CheckLockedMemory({.limit_bytes = 8192, .pinned_bytes = 4096}, 12'345, "the journal");
  for (const char* part : {"the journal", "12345", "8192", "4096", "LimitMEMLOCK", "ulimit"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

class StatusFile : public ::testing::Test {
 protected:
  StatusFile() : proc_(::testing::TempDir() + "/proc" + std::to_string(getpid())) {
    mkdir(proc_.c_str(), 0700);
    mkdir((proc_ + "/self").c_str(), 0700);
  }
  LockedMemoryFacts With(const std::string& text) {
    EXPECT_TRUE(WriteFileAtomically(proc_ + "/self/status", text).ok());
    return ReadLockedMemoryFacts(proc_);
  }
  const std::string proc_;
};

TEST_F(StatusFile, IsUnderstood) {
  const LockedMemoryFacts facts =
      With("Name:\tx\nVmPin:\t    12 kB\nCapInh:\tffffffffffffffff\nCapEff:\t0000000000004000\n");
  EXPECT_EQ(facts.pinned_bytes, 12 * 1024u);
  EXPECT_TRUE(facts.may_exceed);
  EXPECT_FALSE(With("CapEff:\t0000000000002000\n").may_exceed);
}

TEST_F(StatusFile, NonsenseCountsAsNothing) {
  for (const char* text : {"", "VmPin:\nCapEff:\n", "VmPin: many\nCapEff: all\n",
                           "VmPin: 99999999999999999999 kB\n"}) {
    const LockedMemoryFacts facts = With(text);
    EXPECT_EQ(facts.pinned_bytes, 0u) << text;
    EXPECT_FALSE(facts.may_exceed) << text;
  }
  EXPECT_FALSE(ReadLockedMemoryFacts("/nonexistent").may_exceed);
}

TEST(RegionMemory, IsZeroPageAlignedAndRoundedUp) {
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4097}, 3 * kMiB + 1}) {
    const absl::StatusOr<RegionMemory> memory = RegionMemory::Allocate(bytes, "a region");
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(memory->bytes().size(), (bytes + 4095) / 4096 * 4096);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->bytes().data()) % 4096, 0u);
    for (const std::byte byte : memory->bytes()) ASSERT_EQ(byte, std::byte{0});
    memory->bytes().back() = std::byte{1};
  }
}

TEST(RegionMemory, MoreThanTheHostHasIsRefused) {
  const absl::Status status = RegionMemory::Allocate(uint64_t{1} << 45, "the journal").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the journal"));
}

TEST(RegionMemory, Moves) {
  absl::StatusOr<RegionMemory> a = RegionMemory::Allocate(4096, "a");
  absl::StatusOr<RegionMemory> b = RegionMemory::Allocate(8192, "b");
  ASSERT_TRUE(a.ok() && b.ok());
  const std::byte* const data = b->bytes().data();
  *a = *std::move(b);
  EXPECT_EQ(a->bytes().data(), data);
  const RegionMemory c(*std::move(a));
  EXPECT_EQ(c.bytes().data(), data);
  c.bytes()[0] = std::byte{1};
}

}  // namespace
}  // namespace haven
