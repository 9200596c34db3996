// SPDX-License-Identifier: Apache-2.0
#include "engine/control/guard.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file_util.h"
#include "engine/control/guard_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST_F(GuardTest, AProtectionThatEndsAsAskedLeavesNothing) {
  record_.phase = GroupPhase::kNew;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_THAT(Runs(), ElementsAre("absent"));
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "attach", "resume", "open", "remove"));
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AnEngineIsToldItsGroup) {
  record_.phase = GroupPhase::kNew;
  const std::string words = folder_.File("words");
  ASSERT_TRUE(Run(absl::StrCat("echo \"$@\" > ", words, "; exit 44")).ok());
  EXPECT_EQ(*ReadBoundedFile(words, 1000),
            absl::StrCat("--directory ", directory_.path(), " --group web --register absent\n"));
}

TEST_F(GuardTest, AGuestThatEndedEndsTheProtection) {
  record_.phase = GroupPhase::kNew;
  const absl::StatusOr<GuardEnd> end = Run("exit 41");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kGuestEnded);
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AnEngineThatCanNotBeginEndsANewProtection) {
  record_.phase = GroupPhase::kNew;
  const absl::Status status = Run("exit 43").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("group web"));
  EXPECT_EQ(Runs().size(), 1u);
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AnEngineThatDiesAtOnceIsFollowedByAnotherOneAlone) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  const absl::StatusOr<GuardEnd> end = Run("[ $run = 1 ] && kill -SEGV $$; exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  // Each engine begins with a register that was granted to the guard.
  ASSERT_EQ(Runs().size(), 2u);
  for (const std::string& text : Runs()) {
    const absl::StatusOr<Register> value = ParseRegister(text);
    ASSERT_TRUE(value.ok()) << value.status();
    EXPECT_EQ(value->owner, kOwner);
    EXPECT_EQ(value->mode, RegisterMode::kSolo);
  }
  EXPECT_NE(Runs()[0], Runs()[1]) << "a value that was merely read opens nothing";
  EXPECT_EQ(arbiter_->inner.value(kGroup), *ParseRegister(Runs()[1]));
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "open", "attach", "resume", "open", "attach",
                                  "resume", "open", "remove"));
}

TEST_F(GuardTest, AnEngineThatCanNotBeginIsTriedAgainOnceItsOutputMayBeHeld) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  const absl::StatusOr<GuardEnd> end = Run("[ $run -lt 3 ] && exit 43; exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_EQ(Runs().size(), 3u);
}

TEST_F(GuardTest, AnEngineWhoseGuestHasChangedIsFollowedByAnotherOneAndHasNotDied) {
  SetRegister(kOwner, RegisterMode::kSolo);
  testing::internal::CaptureStderr();
  const absl::StatusOr<GuardEnd> end = Run("[ $run = 1 ] && exit 45; exit 44");
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_EQ(Runs().size(), 2u);
  EXPECT_THAT(log, testing::Not(testing::HasSubstr("the engine died")));
}

TEST_F(GuardTest, AnEngineThatNeverSaysThatItIsReadyIsKilled) {
  SetRegister(kOwner, RegisterMode::kSolo);
  options_.start_ns = 50 * kNsPerMs;
  const absl::StatusOr<GuardEnd> end = Run("[ $run = 1 ] && exec sleep 1000; exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
}

TEST_F(GuardTest, AnEngineThatStopsVouchingIsKilled) {
  SetRegister(kOwner, RegisterMode::kSolo);
  options_.start_ns = 24 * 3600 * kNsPerSecond;
  // It vouched for itself until 1 ns after the machine's start.
  const absl::StatusOr<GuardEnd> end =
      Run("[ $run = 1 ] && { printf '\\001' >&3; exec sleep 1000; }; exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
}

TEST_F(GuardTest, ADeposedCopyIsDestroyedBeforeItsOutput) {
  SetRegister(kOther, RegisterMode::kSolo);
  destroy_failures_ = 1;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kDestroyed);
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "stop", "destroy", "destroy", "discard"));
  EXPECT_TRUE(Runs().empty());
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AnEnginesWordThatItIsDeposedStopsTheGuestsAtOnce) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  // By the time the register is asked it says so, and the record does.
  arbiter_->on_read = [this] {
    if (Runs().empty()) return;
    const Register old = *arbiter_->inner.value(kGroup);
    if (old.owner == kOther) return;
    EXPECT_EQ(SavedPhase(), GroupPhase::kDeposed);
    Register value = old;
    value.term = 2;
    value.owner = kOther;
    value.stamp = 0xdef;
    arbiter_->inner.CompareAndSet(kGroup, {old, value}, kTestPatience);
  };
  const absl::StatusOr<GuardEnd> end = Run("exit 40");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kDestroyed);
  EXPECT_THAT(notes_,
              ElementsAre("attach", "resume", "open", "attach", "stop", "destroy", "discard"));
}

TEST_F(GuardTest, ADeposedCopyStaysDeposedWithTheNextGuard) {
  SetRegister(kOther, RegisterMode::kSolo);
  record_.phase = GroupPhase::kDeposed;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kDestroyed);
  EXPECT_THAT(notes_, ElementsAre("attach", "stop", "destroy", "discard"));
}

TEST_F(GuardTest, ADeposedCopyThatHasTheTermBackIsNotDeposedAnyMore) {
  SetRegister(kOwner, RegisterMode::kSolo);
  record_.phase = GroupPhase::kDeposed;
  on_open_ = [this] {
    EXPECT_THAT(SavedPhase(), AnyOf(GroupPhase::kProtecting, GroupPhase::kEnding));
  };
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_THAT(notes_, Contains("open"));
  EXPECT_THAT(notes_, Not(Contains("destroy")));
}

TEST_F(GuardTest, ANewCopyOfAGroupThatIsElsewhereIsRefusedUntouched) {
  SetRegister(kOther, RegisterMode::kPromotable);
  record_.phase = GroupPhase::kNew;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kRefused);
  EXPECT_THAT(notes_, ElementsAre("attach", "resume"));
  EXPECT_TRUE(Runs().empty());
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AnEngineThatIsRefusedIsExplainedByTheRegister) {
  record_.phase = GroupPhase::kNew;
  // Somebody else makes the register while the engine starts.
  arbiter_->on_read = [this] {
    if (!Runs().empty() && !arbiter_->inner.value(kGroup).has_value()) {
      SetRegister(kOther, RegisterMode::kSolo);
    }
  };
  const absl::StatusOr<GuardEnd> end = Run("exit 42");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kRefused);
  EXPECT_THAT(notes_, Not(Contains("destroy")));
  EXPECT_THAT(notes_, Not(Contains("stop")));
}

TEST_F(GuardTest, GuestsThatAreGoneEndTheProtection) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  gone_ = true;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kGuestEnded);
  EXPECT_TRUE(Runs().empty());
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, TheDeadEnginesHoldOnAGuestPasses) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  attach_failures_ = 3;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_EQ(Count("attach"), 5);
}

TEST_F(GuardTest, AGuardThatWaitsForItsGuestsCanBeStopped) {
  attach_failures_ = 1 << 30;
  stop_.Signal();
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kStopped);
  EXPECT_TRUE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, OutputThatCanNotBeOpenedYetIsTriedAgain) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  open_failures_ = 2;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(Count("open"), 4);
  EXPECT_EQ(Runs().size(), 1u) << "an engine begins with an open output";
}

TEST_F(GuardTest, CopiesWhosePromotionWasBrokenOffRunByAGrantOnly) {
  SetRegister(kOwner, RegisterMode::kSolo);
  unrun_ = true;
  run_failures_ = 1;
  arbiter_->on_read = [this] { EXPECT_EQ(Count("let run"), 0); };
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  const auto first = [this](const char* what) {
    return std::find(notes_.begin(), notes_.end(), what) - notes_.begin();
  };
  EXPECT_LT(first("let run"), first("open"));
  EXPECT_GE(Count("let run"), 2) << "tried again";
  EXPECT_EQ(Runs().size(), 1u) << "an engine begins with guests that run";
}

TEST_F(GuardTest, ABufferThatStaysIsTriedAgainBeforeTheRecordGoes) {
  SetRegister(kOwner, RegisterMode::kSolo);
  remove_failures_ = 1;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_EQ(Count("remove"), 2);
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, ASilentArbiterOpensNothing) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  arbiter_->inner.set_silent(true);
  int reads = 0;
  arbiter_->on_read = [&] {
    if (++reads == 3) stop_.Signal();
  };
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kStopped);
  EXPECT_THAT(notes_, Not(Contains("open")));
  EXPECT_THAT(notes_, Not(Contains("destroy")));
  EXPECT_TRUE(Runs().empty());
  EXPECT_EQ(*directory_.Load(kGroup), record_);
}

TEST_F(GuardTest, AGuardThatIsStoppedTakesItsEngineAlong) {
  SetRegister(kOwner, RegisterMode::kSolo);
  const std::string pid_file = folder_.File("pid");
  std::thread operator_thread([&] {
    EXPECT_TRUE(WaitFor([&] { return access(pid_file.c_str(), F_OK) == 0; }));
    stop_.Signal();
  });
  const absl::StatusOr<GuardEnd> end = Run(absl::StrCat(
      "echo $$ > ", pid_file, ".new; mv ", pid_file, ".new ", pid_file, "; exec sleep 1000"));
  operator_thread.join();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kStopped);
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "open", "attach", "resume"))
      << "the engine may have died in the middle of an epoch";
  EXPECT_TRUE(directory_.Exists(kGroup)) << "for the next guard";
  pid_t pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(*ReadBoundedFile(pid_file, 20), &pid));
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(GuardTest, ARecordThatWasDamagedMeanwhileIsNotBelieved) {
  SetRegister(kOwner, RegisterMode::kSolo);
  const absl::StatusOr<GuardEnd> end =
      Run("[ $run = 1 ] && { echo '{' > \"$2/web.group\"; exit 1; }; exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_EQ(Runs().size(), 2u);
}

TEST_F(GuardTest, NothingIsDestroyedThatCouldNotBeWrittenDown) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  EXPECT_FALSE(Run("rm -r \"$2\"; exit 40").ok());
  EXPECT_THAT(notes_, Not(Contains("destroy")));
  EXPECT_THAT(notes_, Not(Contains("stop")));
}

TEST_F(GuardTest, ARecordThatWasDamagedMeanwhileDoesNotSayThatNothingIsHeld) {
  record_.phase = GroupPhase::kNew;
  SetRegister(kOwner, RegisterMode::kSolo);
  const absl::StatusOr<GuardEnd> end =
      Run("[ $run = 1 ] && { echo '{' > \"$2/web.group\"; exit 43; }; exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kUnprotected);
  EXPECT_EQ(Runs().size(), 2u) << "a copy that was never protected would end with its engine";
}

TEST_F(GuardTest, AnExitOfZeroOpensNothing) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  ASSERT_TRUE(Run("[ $run = 1 ] && exit 0; exit 44").ok());
  EXPECT_EQ(Runs().size(), 2u);
  EXPECT_EQ(Count("remove"), 1);
}

TEST_F(GuardTest, AGuestThatIsGoneEndsTheProtectionOfTheOthersByTheRegistersWord) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  ended_ = {"guest g2 is dead"};
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kGuestEnded);
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "attach", "resume", "open", "remove"));
  EXPECT_EQ(arbiter_->inner.value(kGroup)->mode, RegisterMode::kNone);
  EXPECT_NE(arbiter_->inner.value(kGroup)->stamp, 0xabcu);
  EXPECT_TRUE(Runs().empty());
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, ASilentArbiterKeepsWhatIsLeftOfAGroupHeld) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  ended_ = {"guest g2 is dead"};
  arbiter_->inner.set_silent(true);
  int reads = 0;
  arbiter_->on_read = [&] {
    if (++reads == 3) stop_.Signal();
  };
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kStopped);
  EXPECT_EQ(Count("open"), 0);
  EXPECT_EQ(SavedPhase(), GroupPhase::kProtecting);
}

TEST_F(GuardTest, WhatIsLeftOfADeposedCopyIsDestroyed) {
  SetRegister(kOther, RegisterMode::kSolo);
  ended_ = {"guest g2 is dead"};
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kDestroyed);
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "stop", "destroy", "discard"));
}

TEST_F(GuardTest, AGroupOfWhichNothingIsLeftIsLeftToItsBackup) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  gone_ = true;
  ASSERT_TRUE(Run("exit 44").ok());
  EXPECT_EQ(arbiter_->inner.value(kGroup)->mode, RegisterMode::kPromotable);
}

TEST_F(GuardTest, AnEndThatWasAskedForIsFinishedByTheNextGuard) {
  // Once as the dead engine has left it, and once as it is with the end already granted.
  SetRegister(kOwner, RegisterMode::kPromotable);
  record_.phase = GroupPhase::kEnding;
  for (int round = 0; round < 2; ++round) {
    notes_.clear();
    const RequestId before = arbiter_->inner.value(kGroup)->stamp;
    const absl::StatusOr<GuardEnd> end = Run("exit 40");
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, GuardEnd::kUnprotected);
    EXPECT_TRUE(Runs().empty()) << "no engine: nothing is protected any more";
    EXPECT_THAT(notes_, ElementsAre("attach", "resume", "attach", "resume", "open", "remove"));
    EXPECT_EQ(arbiter_->inner.value(kGroup)->mode, RegisterMode::kNone);
    EXPECT_NE(arbiter_->inner.value(kGroup)->stamp, before) << "by a grant, not by a value read";
    EXPECT_FALSE(directory_.Exists(kGroup));
  }
}

TEST_F(GuardTest, AnEndThatCameTooLateDestroysTheDeposedCopy) {
  SetRegister(kOther, RegisterMode::kSolo);
  record_.phase = GroupPhase::kEnding;
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kDestroyed);
  EXPECT_EQ(Count("open"), 0);
}

TEST_F(GuardTest, AGuestThatEndsBeforeItsOutputIsOpenIsAMatterForTheRegisterAgain) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  open_failures_ = 1;
  options_.retry_ns = kNsPerMs;
  on_open_ = [this] { ended_ = {"guest g2 is dead"}; };
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kGuestEnded);
  EXPECT_TRUE(Runs().empty());
  EXPECT_EQ(arbiter_->inner.value(kGroup)->mode, RegisterMode::kNone);
}

TEST_F(GuardTest, AHeldGuestThatStaysHeldDoesNotKeepAGuardFromStopping) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  options_.tell_ns = 0;
  options_.retry_ns = kNsPerMs;
  attach_failures_ = 1000000;
  on_attach_ = [this] {
    if (Count("attach") == 5) stop_.Signal();
  };
  const absl::StatusOr<GuardEnd> end = Run("exit 44");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, GuardEnd::kStopped);
  EXPECT_EQ(Count("attach"), 5);
  EXPECT_TRUE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AGroupNameThatTheArbiterDoesNotTakeIsFinal) {
  record_.phase = GroupPhase::kNew;
  arbiter_->refusal = absl::InvalidArgumentError("no such name");
  const absl::Status status = Run("exit 44").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_TRUE(Runs().empty());
  EXPECT_FALSE(directory_.Exists(kGroup));
}

}  // namespace
}  // namespace haven
