// SPDX-License-Identifier: Apache-2.0
#include "transport/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace haven {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// A made-up /proc and /sys/fs/cgroup.
class MemoryBudgetTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    root_ = std::filesystem::path(testing::TempDir()) / ("memory_budget_" + name);
    std::filesystem::remove_all(root_);
    roots_ = {.proc = root_ / "proc", .cgroup = root_ / "cgroup"};
    Write("proc/meminfo", "MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable:  1048576 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_ / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }

  std::filesystem::path root_;
  MemoryBudgetRoots roots_;
};

TEST_F(MemoryBudgetTest, WithoutControlGroupsTheHostDecides) {
  EXPECT_EQ(*AvailableMemoryBytes(roots_), 1024 * kMiB);
}

TEST_F(MemoryBudgetTest, Version2LimitOfAnyParentCounts) {
  Write("proc/self/cgroup", "0::/haven.slice/session\n");
  Write("cgroup/haven.slice/session/memory.max", "max\n");
  Write("cgroup/haven.slice/session/memory.current", "1000\n");
  Write("cgroup/haven.slice/memory.max", std::to_string(300 * kMiB) + "\n");
  Write("cgroup/haven.slice/memory.current", std::to_string(100 * kMiB) + "\n");
  EXPECT_EQ(*AvailableMemoryBytes(roots_), 200 * kMiB);
}

TEST_F(MemoryBudgetTest, DroppablePageCacheIsFreeMemory) {
  Write("proc/self/cgroup", "0::/g\n");
  Write("cgroup/g/memory.max", std::to_string(300 * kMiB));
  Write("cgroup/g/memory.current", std::to_string(290 * kMiB));
  Write("cgroup/g/memory.stat", "file " + std::to_string(290 * kMiB) + "\nshmem 1\ninactive_file " +
                                    std::to_string(30 * kMiB) + "\nactive_file " +
                                    std::to_string(10 * kMiB) + "\n");
  EXPECT_EQ(*AvailableMemoryBytes(roots_), 50 * kMiB);
}

TEST_F(MemoryBudgetTest, Version1LimitCounts) {
  Write("proc/self/cgroup", "5:cpu:/x\n4:hugetlb,memory:/jobs/a\n0::/\n");
  Write("cgroup/memory/jobs/a/memory.limit_in_bytes", "9223372036854771712\n");
  Write("cgroup/memory/jobs/a/memory.usage_in_bytes", "5\n");
  Write("cgroup/memory/jobs/memory.limit_in_bytes", std::to_string(500 * kMiB));
  Write("cgroup/memory/jobs/memory.usage_in_bytes", std::to_string(450 * kMiB));
  Write("cgroup/memory/jobs/memory.stat",
        "inactive_file 7\ntotal_inactive_file " + std::to_string(50 * kMiB) + "\n");
  EXPECT_EQ(*AvailableMemoryBytes(roots_), 100 * kMiB);
}

TEST_F(MemoryBudgetTest, UsageAboveTheLimitLeavesNothing) {
  Write("proc/self/cgroup", "0::/g\n");
  Write("cgroup/g/memory.max", "1000");
  Write("cgroup/g/memory.current", "2000");
  EXPECT_EQ(*AvailableMemoryBytes(roots_), 0u);
  EXPECT_EQ(CheckMemoryFor(1, "region", roots_).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(MemoryBudgetTest, CheckKeepsTheReserve) {
  const uint64_t most = 1024 * kMiB - kMemoryReserveBytes;
  EXPECT_TRUE(CheckMemoryFor(most, "region", roots_).ok());
  EXPECT_TRUE(CheckMemoryFor(0, "region", roots_).ok());
  const absl::Status refused = CheckMemoryFor(most + 1, "the journal ring", roots_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("the journal ring"));
  EXPECT_THAT(std::string(refused.message()), testing::EndsWith("ask for a smaller region"));
  EXPECT_THAT(std::string(CheckMemoryFor(most + 1, "x", roots_, "take less of x").message()),
              testing::EndsWith("or take less of x"));
  EXPECT_EQ(CheckMemoryFor(UINT64_MAX, "region", roots_).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(MemoryBudgetTest, MeminfoThatIsNotUnderstoodIsAnError) {
  Write("proc/meminfo", "MemAvailable: lots\n");
  EXPECT_EQ(AvailableMemoryBytes(roots_).status().code(), absl::StatusCode::kFailedPrecondition);
  Write("proc/meminfo", "MemAvailable: 18446744073709551615 kB\n");
  EXPECT_EQ(AvailableMemoryBytes(roots_).status().code(), absl::StatusCode::kFailedPrecondition);
  std::filesystem::remove(root_ / "proc/meminfo");
  EXPECT_FALSE(CheckMemoryFor(1, "region", roots_).ok());
}

TEST_F(MemoryBudgetTest, DamagedGroupFilesDoNotLimit) {
  Write("proc/self/cgroup", "nonsense\n0::\n::\n0::/g\n");
  Write("cgroup/g/memory.max", "-5");
  Write("cgroup/g/memory.current", "");
  EXPECT_EQ(*AvailableMemoryBytes(roots_), 1024 * kMiB);
}

TEST(MemoryBudgetOnThisHost, FindsSomething) {
  const absl::StatusOr<uint64_t> available = AvailableMemoryBytes();
  ASSERT_TRUE(available.ok()) << available.status();
  EXPECT_GT(*available, 0u);
}

}  // namespace
}  // namespace haven
