// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/recorded_domain.h"

#include <unistd.h>

#include <functional>
#include <string>

#include "engine/base/check.h"
#include "engine/base/short_folder_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// Asks a test what holds when its log of dirty pages goes on.
class LoggedDomain final : public Domain {
 public:
  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return memory_; }
  absl::Status EnableLogDirty() override {
    ++enabled;
    if (on_enable) on_enable();
    return absl::OkStatus();
  }
  absl::Status FetchAndClearDirty(std::span<uint64_t>) override { return absl::OkStatus(); }
  absl::StatusOr<uint64_t> CountDirty() override { return 0; }
  void DisableLogDirty() override {}
  absl::StatusOr<size_t> CaptureState(std::span<std::byte>) override { return 0; }
  size_t max_state_bytes() const override { return 0; }
  DomainEnd End() override { return DomainEnd::kNone; }
  absl::Status Destroy() override { return absl::OkStatus(); }

  int enabled = 0;
  std::function<void()> on_enable;

 private:
  DomainInfo info_;
  GuestMemory memory_;
};

class RecordedDomainTest : public testing::Test {
 protected:
  RecordedDomainTest() {
    record_.group = "web";
    record_.owner = "host-a.0000000000000001";
    record_.guests = {"test:g1"};
    record_.interval_us = record_.detect_us = record_.rearm_us = 1000;
    record_.pause_budget_us = record_.arbiter_timeout_us = 1000;
    record_.journal_bytes = 1 << 20;
    HAVEN_CHECK_OK(directory_.Ensure());
    HAVEN_CHECK_OK(directory_.Save(record_));
  }
  GroupPhase Saved() const { return directory_.Load("web")->phase; }

  const ShortFolder folder_;
  const GroupDirectory directory_{folder_.File("node")};
  GroupRecord record_;
};

TEST_F(RecordedDomainTest, ASessionIsWrittenDownBeforeItBegins) {
  RecordedPhase phase(directory_, record_);
  LoggedDomain inner;
  inner.on_enable = [this] { EXPECT_EQ(Saved(), GroupPhase::kProtecting); };
  RecordedDomain domain(inner, phase);
  ASSERT_TRUE(domain.EnableLogDirty().ok());
  ASSERT_TRUE(domain.EnableLogDirty().ok());
  EXPECT_EQ(inner.enabled, 2);
}

TEST_F(RecordedDomainTest, ASessionThatCanNotBeWrittenDownDoesNotBegin) {
  RecordedPhase phase(GroupDirectory(folder_.File("elsewhere")), record_);
  LoggedDomain inner;
  RecordedDomain domain(inner, phase);
  EXPECT_FALSE(domain.EnableLogDirty().ok());
  EXPECT_FALSE(domain.EnableLogDirty().ok()) << "nor the next time";
  EXPECT_EQ(inner.enabled, 0);
}

TEST_F(RecordedDomainTest, AnEndIsWrittenDownAndTakenBack) {
  RecordedPhase phase(directory_, record_);
  ASSERT_TRUE(phase.Protecting().ok());
  EXPECT_TRUE(*phase.Ending());
  EXPECT_EQ(Saved(), GroupPhase::kEnding);
  EXPECT_FALSE(*phase.Ending()) << "it was written down before";
  ASSERT_TRUE(phase.Protecting().ok());
  EXPECT_EQ(Saved(), GroupPhase::kEnding) << "a session does not take an end back";
  ASSERT_TRUE(phase.NotEnding().ok());
  EXPECT_EQ(Saved(), GroupPhase::kProtecting);
}

TEST_F(RecordedDomainTest, ACopyThatNeverHadASessionHasNothingToEnd) {
  RecordedPhase phase(directory_, record_);
  EXPECT_FALSE(*phase.Ending());
  EXPECT_EQ(Saved(), GroupPhase::kNew);
}

}  // namespace
}  // namespace haven
