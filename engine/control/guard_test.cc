// SPDX-License-Identifier: Apache-2.0
//
// The guard with shells in place of engines and guests that note what is done to them.
#include "engine/control/guard.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "engine/base/file_util.h"
#include "engine/control/control_testing.h"
#include "engine/control/wake_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::AnyNumber;
using testing::AnyOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Invoke;
using testing::Not;
using testing::StrictMock;

constexpr char kGroup[] = "web";
constexpr char kOwner[] = "host-a.0000000000000001";
constexpr char kOther[] = "host-b.0000000000000002";
constexpr SessionId kSession = 0x11;

class MockDomain : public Domain {
 public:
  MOCK_METHOD(const DomainInfo&, info, (), (const, override));
  MOCK_METHOD(const GuestMemory&, memory, (), (const, override));
  MOCK_METHOD(absl::Status, EnableLogDirty, (), (override));
  MOCK_METHOD(absl::Status, FetchAndClearDirty, (std::span<uint64_t>), (override));
  MOCK_METHOD(void, DisableLogDirty, (), (override));
  MOCK_METHOD(absl::StatusOr<size_t>, CaptureState, (std::span<std::byte>), (override));
  MOCK_METHOD(size_t, max_state_bytes, (), (const, override));
  MOCK_METHOD(DomainEnd, End, (), (override));
  MOCK_METHOD(absl::Status, Destroy, (), (override));
};

class MockSuspend : public SuspendMethod {
 public:
  MOCK_METHOD(absl::Status, Request, (), (override));
  MOCK_METHOD(State, Poll, (), (override));
  MOCK_METHOD(absl::Status, Resume, (), (override));
  MOCK_METHOD(int, event_fd, (), (const, override));
};

class MockOutput : public OutputBuffer {
 public:
  MOCK_METHOD(absl::Status, Hold, (), (override));
  MOCK_METHOD(absl::Status, Barrier, (), (override));
  MOCK_METHOD(absl::Status, ReleaseOne, (), (override));
  MOCK_METHOD(absl::Status, OpenAll, (), (override));
  MOCK_METHOD(absl::Status, Rebuild, (), (override));
  MOCK_METHOD(absl::Status, Discard, (), (override));
  MOCK_METHOD(absl::Status, Remove, (), (override));
  MOCK_METHOD(OutputStats, stats, (), (override));
  MOCK_METHOD(absl::Status, Health, (), (override));
};

// Tells a test of each question before it is answered.
class WatchedArbiter final : public Arbiter {
 public:
  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override {
    if (on_read) on_read();
    if (!refusal.ok()) return {Verdict::kUnknown, std::nullopt, refusal};
    return inner.Read(group, timeout);
  }
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override {
    return inner.CompareAndSet(group, request, timeout);
  }
  std::string Describe() const override { return inner.Describe(); }

  TestArbiter inner;
  std::function<void()> on_read;
  absl::Status refusal;
};

class GuardTest : public testing::Test {
 protected:
  GuardTest() {
    record_.group = kGroup;
    record_.owner = kOwner;
    record_.phase = GroupPhase::kProtecting;
    record_.guests = {"test:g1"};
    record_.interval_us = record_.detect_us = record_.rearm_us = 1000;
    record_.pause_budget_us = record_.arbiter_timeout_us = 1000;
    record_.journal_bytes = 1 << 20;
    HAVEN_CHECK_OK(directory_.Ensure());
    options_.backoff_ns = kNsPerMs;
  }

  // `engine` sees $2: the directory, $6: the register. Each run is counted by a line in runs_.
  absl::StatusOr<GuardEnd> Run(const std::string& engine) {
    HAVEN_CHECK_OK(directory_.Save(record_));
    options_.engine_command = {
        "/bin/sh", "-c",
        absl::StrCat("echo \"$6\" >> ", runs_, "; run=$(wc -l < ", runs_, "); ", engine), "engine"};
    Guard guard(
        options_, directory_, record_, [this](const GroupRecord& record) { return Attach(record); },
        *ThreadArbiterPort::Create(arbiter_, kGroup, kTestPatience), stop_.fd());
    return guard.Run();
  }
  absl::StatusOr<GuestSet> Attach(const GroupRecord& record) {
    EXPECT_EQ(record.group, kGroup);
    Note("attach");
    if (on_attach_) on_attach_();
    if (attach_failures_ > 0) {
      --attach_failures_;
      return absl::FailedPreconditionError("the dead engine still has it");
    }
    if (gone_) return absl::NotFoundError("guest g1 does not exist");
    const auto note = [this](const char* what, int* failures = nullptr) {
      return Invoke([this, what, failures] { return Act(what, failures); });
    };
    auto domain = std::make_unique<StrictMock<MockDomain>>();
    auto suspend = std::make_unique<StrictMock<MockSuspend>>();
    auto output = std::make_unique<StrictMock<MockOutput>>();
    EXPECT_CALL(*domain, Destroy()).Times(AnyNumber()).WillRepeatedly(Invoke([this] {
      EXPECT_EQ(SavedPhase(), GroupPhase::kDeposed) << "written down before it is done";
      return Act("destroy", &destroy_failures_);
    }));
    EXPECT_CALL(*suspend, Resume()).Times(AnyNumber()).WillRepeatedly(note("resume"));
    EXPECT_CALL(*suspend, Request()).Times(AnyNumber()).WillRepeatedly(note("stop"));
    EXPECT_CALL(*output, OpenAll()).Times(AnyNumber()).WillRepeatedly(Invoke([this] {
      if (on_open_) on_open_();
      return Act("open", &open_failures_);
    }));
    EXPECT_CALL(*output, Discard()).Times(AnyNumber()).WillRepeatedly(note("discard"));
    EXPECT_CALL(*output, Remove()).Times(AnyNumber()).WillRepeatedly(Invoke([this] {
      EXPECT_EQ(SavedPhase(), GroupPhase::kEnding) << "whoever dies now, the next guard goes on";
      return Act("remove", &remove_failures_);
    }));
    GuestSet set;
    set.ended = ended_;
    set.domains.push_back(std::move(domain));
    set.suspends.push_back(std::move(suspend));
    set.output = std::move(output);
    return set;
  }
  void Note(const char* what) { notes_.push_back(what); }
  absl::Status Act(const char* what, int* failures) {
    Note(what);
    if (failures == nullptr || *failures == 0) return absl::OkStatus();
    --*failures;
    return absl::InternalError("not yet");
  }
  long Count(const char* what) const { return std::count(notes_.begin(), notes_.end(), what); }

  // What the register says at the beginning.
  void SetRegister(const std::string& owner, RegisterMode mode, bool running = true) {
    Register value;
    value.term = 1;
    value.owner = owner;
    value.mode = mode;
    value.session = mode == RegisterMode::kPromotable ? kSession : kNoSession;
    value.running = running;
    value.stamp = 0xabc;
    const RegisterAnswer answer =
        arbiter_->inner.CompareAndSet(kGroup, {std::nullopt, value}, kTestPatience);
    HAVEN_CHECK(answer.verdict == Verdict::kGranted);
  }
  std::vector<std::string> Runs() const {
    const absl::StatusOr<std::string> text = ReadBoundedFile(runs_, 1 << 16);
    if (!text.ok()) return {};
    return absl::StrSplit(*text, '\n', absl::SkipEmpty());
  }
  GroupPhase SavedPhase() const { return directory_.Load(kGroup)->phase; }

  const TestFolder folder_;
  const GroupDirectory directory_{folder_.File("node")};
  const std::string runs_ = folder_.File("runs");
  const std::shared_ptr<WatchedArbiter> arbiter_ = std::make_shared<WatchedArbiter>();
  const WakeFd stop_ = *WakeFd::Create();
  GuardOptions options_;
  GroupRecord record_;
  std::vector<std::string> notes_;
  int attach_failures_ = 0;
  int destroy_failures_ = 0;
  int open_failures_ = 0;
  int remove_failures_ = 0;
  bool gone_ = false;
  std::vector<std::string> ended_;
  std::function<void()> on_attach_;
  std::function<void()> on_open_;
};

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
