// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/log_dirty.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kFrames = 200;
constexpr uint64_t kCanary = 199;

class LogDirtyTest : public ::testing::Test {
 protected:
  absl::Status Fetch(bool stopped = true, LogDirty::After after = LogDirty::After::kClear) {
    bitmap_.assign((kFrames + 63) / 64, 0);
    return log_.Fetch(bitmap_, stopped, after);
  }
  absl::Status FetchAndKeep() { return Fetch(true, LogDirty::After::kKeep); }
  bool Dirty(uint64_t frame) const { return ((bitmap_[frame / 64] >> (frame % 64)) & 1) != 0; }
  // What `xl save` of the same guest does.
  void Steal() {
    ASSERT_TRUE(control_.LogDirtyOff().ok());
    ASSERT_TRUE(control_.LogDirtyOn().ok());
  }

  FakeDomainControl control_{kFrames};
  std::vector<uint64_t> bitmap_;
  LogDirty log_{control_, "g1", kFrames, kCanary};
};

TEST_F(LogDirtyTest, FramesAppearOnceAndAreOredIn) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.log[3] = control_.log[130] = true;
  bitmap_.assign(4, 0);
  bitmap_[0] = uint64_t{1} << 60;
  ASSERT_TRUE(log_.Fetch(bitmap_, true).ok());
  EXPECT_TRUE(Dirty(3));
  EXPECT_TRUE(Dirty(130));
  EXPECT_TRUE(Dirty(60)) << "what was there stays";
  EXPECT_FALSE(Dirty(4));
  ASSERT_TRUE(Fetch().ok());
  EXPECT_FALSE(Dirty(3));
}

// Off and on, and then the log can not be emptied: it looks whole, and what was lost is not in it.
TEST_F(LogDirtyTest, ALossIsToldAlsoIfItsMendingFailsHalfWay) {
  ASSERT_TRUE(log_.Enable(false).ok());
  Steal();
  control_.failing_clean = 2;  // The fetch's own is the first.
  const absl::Status half = Fetch();
  EXPECT_FALSE(half.ok());
  EXPECT_FALSE(absl::IsAborted(half)) << half;
  EXPECT_TRUE(absl::IsAborted(FetchAndKeep()));
  EXPECT_EQ(log_.losses(), 1u);
  EXPECT_TRUE(Fetch().ok()) << "told once";
}

TEST_F(LogDirtyTest, AKeptLogGrowsUntilItIsCleared) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.log[3] = true;
  ASSERT_TRUE(FetchAndKeep().ok());
  EXPECT_TRUE(Dirty(3));
  control_.log[130] = true;
  ASSERT_TRUE(FetchAndKeep().ok());
  EXPECT_TRUE(Dirty(3));
  EXPECT_TRUE(Dirty(130));
  ASSERT_TRUE(Fetch().ok());
  EXPECT_TRUE(Dirty(3));
  EXPECT_TRUE(Dirty(130));
  ASSERT_TRUE(FetchAndKeep().ok());
  EXPECT_FALSE(Dirty(3));
  EXPECT_FALSE(Dirty(130));
}

TEST_F(LogDirtyTest, WhoeverUsesAKeptLogIsNoticed) {
  ASSERT_TRUE(log_.Enable(false).ok());
  ASSERT_TRUE(FetchAndKeep().ok());
  Steal();
  EXPECT_TRUE(absl::IsAborted(FetchAndKeep()));
  EXPECT_TRUE(FetchAndKeep().ok()) << "it is whole again";
  // One that is only cleared, too.
  control_.LogDirtyClean(true).IgnoreError();
  EXPECT_TRUE(absl::IsAborted(FetchAndKeep()));
}

TEST_F(LogDirtyTest, SaysWhetherTheGuestIsStopped) {
  ASSERT_TRUE(log_.Enable(false).ok());
  ASSERT_TRUE(Fetch(true).ok());
  EXPECT_TRUE(control_.last_clean_stopped);
  ASSERT_TRUE(Fetch(false).ok());
  EXPECT_FALSE(control_.last_clean_stopped);
}

TEST_F(LogDirtyTest, ALookCountsAndTakesNothingOut) {
  ASSERT_TRUE(log_.Enable(false).ok());
  EXPECT_EQ(*log_.Count(), 1u) << "the canary";
  control_.log[3] = control_.log[130] = true;
  EXPECT_EQ(*log_.Count(), 3u);
  EXPECT_EQ(*log_.Count(), 3u);
  ASSERT_TRUE(Fetch().ok());
  EXPECT_TRUE(Dirty(3));
  EXPECT_TRUE(Dirty(130));
  EXPECT_EQ(*log_.Count(), 1u);
}

TEST_F(LogDirtyTest, ACountIsNeverMoreThanTheGuestHas) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.miscounted = UINT32_MAX;
  EXPECT_EQ(*log_.Count(), kFrames);
}

TEST_F(LogDirtyTest, ALookLeavesALossToTheNextFetch) {
  ASSERT_TRUE(log_.Enable(false).ok());
  Steal();
  EXPECT_TRUE(log_.Count().ok());
  EXPECT_TRUE(absl::IsAborted(Fetch()));
  control_.no_memory = true;
  EXPECT_TRUE(absl::IsDataLoss(log_.Count().status()));
  EXPECT_TRUE(absl::IsAborted(Fetch()));
  EXPECT_TRUE(log_.Count().ok());
}

TEST_F(LogDirtyTest, SomebodyElsesLogIsLeftAlone) {
  control_.logging = true;
  const absl::Status status = log_.Enable(false);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("xl save"));
  EXPECT_TRUE(control_.logging);
  EXPECT_FALSE(log_.enabled());
  log_.Disable();
  EXPECT_TRUE(control_.logging);
}

TEST_F(LogDirtyTest, OurOwnLeftoverIsStartedAnew) {
  control_.logging = true;
  control_.log[7] = true;
  ASSERT_TRUE(log_.Enable(true).ok());
  ASSERT_TRUE(Fetch().ok());
  EXPECT_FALSE(Dirty(7));
}

TEST_F(LogDirtyTest, AGuestThatCanNotBeLoggedIsRefused) {
  control_.loggable = false;
  const absl::Status status = log_.Enable(false);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("nested paging"));
}

TEST_F(LogDirtyTest, ACanaryThatDoesNotSingIsNotReliedOn) {
  control_.markable = false;
  EXPECT_TRUE(absl::IsInternal(log_.Enable(false)));
  EXPECT_FALSE(control_.logging) << "it is off again after a failure";
}

TEST_F(LogDirtyTest, ALogThatWasTurnedOffIsNoticedAndOnAgain) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.log[3] = true;
  ASSERT_TRUE(control_.LogDirtyOff().ok());
  EXPECT_TRUE(absl::IsAborted(Fetch()));
  EXPECT_EQ(log_.losses(), 1u);
  EXPECT_TRUE(control_.logging);
  control_.log[4] = true;
  ASSERT_TRUE(Fetch().ok());
  EXPECT_TRUE(Dirty(4));
}

TEST_F(LogDirtyTest, ALogThatWasTurnedOffAndOnIsNoticed) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.log[3] = true;
  Steal();
  EXPECT_TRUE(absl::IsAborted(Fetch())) << "it is on, and yet frame 3 is lost";
  EXPECT_TRUE(Fetch().ok());
}

TEST_F(LogDirtyTest, ALogThatSomebodyElseHasFetchedIsNoticed) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.log[3] = true;
  ASSERT_TRUE(control_.LogDirtyClean(false).ok());
  control_.log[5] = true;
  EXPECT_TRUE(absl::IsAborted(Fetch()));
  EXPECT_TRUE(Fetch().ok());
}

TEST_F(LogDirtyTest, ALogWithoutMemoryIsStartedAnew) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.no_memory = true;
  const absl::Status status = Fetch();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no memory"));
  EXPECT_TRUE(Fetch().ok());
}

TEST_F(LogDirtyTest, DisabledItFetchesNothing) {
  EXPECT_TRUE(absl::IsFailedPrecondition(Fetch()));
  ASSERT_TRUE(log_.Enable(false).ok());
  log_.Disable();
  EXPECT_FALSE(control_.logging);
  EXPECT_TRUE(absl::IsFailedPrecondition(Fetch()));
  EXPECT_TRUE(absl::IsFailedPrecondition(log_.Count().status()));
  log_.Disable();
}

TEST_F(LogDirtyTest, AGoneDomainIsNoLostLog) {
  ASSERT_TRUE(log_.Enable(false).ok());
  control_.error = absl::NotFoundError("gone");
  EXPECT_TRUE(absl::IsNotFound(Fetch()));
  EXPECT_EQ(log_.losses(), 0u);
  log_.Disable();
  EXPECT_FALSE(log_.enabled());
}

TEST(LogDirty, EndsWithItsObject) {
  FakeDomainControl control(kFrames);
  {
    LogDirty log(control, "g1", kFrames, kCanary);
    ASSERT_TRUE(log.Enable(false).ok());
    EXPECT_TRUE(control.logging);
  }
  EXPECT_FALSE(control.logging);
}

}  // namespace
}  // namespace haven
