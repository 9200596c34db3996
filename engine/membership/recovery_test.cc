// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/recovery.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kOurs[] = "a.0000000000000001";
constexpr char kTheirs[] = "b.0000000000000002";

class RecoveryTest : public ::testing::Test,
                     public RecoveryActions,
                     public ArbiterPort,
                     public IdSource {
 protected:
  void ResumeGuests() override { notes_.push_back("resume"); }
  void StopGuests() override { notes_.push_back("stop"); }
  void DestroyGuests() override { notes_.push_back("destroy"); }
  void Report(const char* cause) override { reports_.emplace_back(cause); }
  void SubmitRead() override { notes_.push_back("read"); }
  void SubmitChange(const RegisterRequest& request) override {
    asked_ = request.desired;
    notes_.push_back(absl::StrCat("ask ", std::string(RegisterModeName(request.desired.mode)),
                                  " term ", request.desired.term));
  }
  uint64_t NextId() override { return ++ids_; }

  void Start(const RecoveryConfig& config = {.owner = kOurs}) {
    config_ = config;
    recovery_.emplace(config_, *this, *this, *this);
    recovery_->StartAfterCrash(now_ns_);
  }
  static Register Value(const char* owner, RegisterMode mode, Term term = 3) {
    Register value{.term = term, .owner = owner, .mode = mode, .stamp = 9};
    if (mode == RegisterMode::kPromotable) value.session = 5;
    return value;
  }
  void Answer(Verdict verdict, const std::optional<Register>& current) {
    recovery_->OnArbiterAnswer({.verdict = verdict, .current = current, .cause = {}}, now_ns_);
  }
  void Silence() {
    recovery_->OnArbiterAnswer(
        {.verdict = Verdict::kUnknown, .current = {}, .cause = absl::UnavailableError("cut")},
        now_ns_);
  }
  void Pass(int64_t ns) {
    now_ns_ += ns;
    recovery_->OnTick(now_ns_);
  }
  std::vector<std::string> Take() { return std::exchange(notes_, {}); }

  std::vector<std::string> notes_;
  std::vector<std::string> reports_;
  std::optional<Register> asked_;
  uint64_t ids_ = 0;
  int64_t now_ns_ = 1000 * kNsPerSecond;
  RecoveryConfig config_;
  std::optional<Recovery> recovery_;
};

TEST_F(RecoveryTest, GuestsRunAtOnceAndOutputOpensByAGrantOnly) {
  Start();
  EXPECT_THAT(Take(), ElementsAre("resume", "read"));
  // `solo` as read is no permission: a request of the dead engine may still be on its way.
  Answer(Verdict::kGranted, Value(kOurs, RegisterMode::kSolo));
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kNotYet);
  EXPECT_THAT(Take(), ElementsAre("ask solo term 3"));
  Answer(Verdict::kGranted, asked_);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kOpen);
}

TEST_F(RecoveryTest, AnEndedProtectionIsClaimedAsNone) {
  Start({.owner = kOurs, .ending = true});
  Answer(Verdict::kGranted, Value(kOurs, RegisterMode::kPromotable));
  EXPECT_THAT(Take(), Contains("ask none term 3"));
  Answer(Verdict::kGranted, asked_);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kOpen);
  EXPECT_EQ(recovery_->value().mode, RegisterMode::kNone);
}

TEST_F(RecoveryTest, APromotionThatWasBrokenOffIsFinished) {
  Start();
  Register ours = Value(kOurs, RegisterMode::kSolo);
  ours.running = false;
  Answer(Verdict::kGranted, ours);
  EXPECT_THAT(Take(), Contains("ask solo term 3"));
  EXPECT_TRUE(asked_->running);
}

TEST_F(RecoveryTest, ACopyThatWasNeverWholeGoesAndLeavesTheTermToBeTakenBack) {
  Start({.owner = kOurs, .ending = true, .whole = false});
  Register ours = Value(kOurs, RegisterMode::kSolo);
  ours.running = false;
  Take();
  Answer(Verdict::kGranted, ours);
  EXPECT_THAT(Take(), ElementsAre("destroy"));
  recovery_->OnGuestsDestroyed(absl::OkStatus(), now_ns_);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kDestroyed);
}

TEST_F(RecoveryTest, ACopyThatHasLostGuestsSinceItRanGoesOnWithTheOthers) {
  Start({.owner = kOurs, .ending = true, .whole = false});
  Answer(Verdict::kGranted, Value(kOurs, RegisterMode::kSolo));
  EXPECT_THAT(Take(), Contains("ask none term 3"));
}

TEST_F(RecoveryTest, ADenialIsNotAnsweredByAskingAtOnce) {
  Start();
  Answer(Verdict::kGranted, Value(kOurs, RegisterMode::kPromotable));
  Take();
  Answer(Verdict::kDenied, Value(kOurs, RegisterMode::kPromotable));
  EXPECT_THAT(Take(), ElementsAre());
  Pass(config_.poll_ns);
  EXPECT_THAT(Take(), ElementsAre("read"));
}

TEST_F(RecoveryTest, ACopyThatIsNotTheOwnerGoesWhenTheNewOneRuns) {
  Start();
  Register theirs = Value(kTheirs, RegisterMode::kSolo, 4);
  theirs.running = false;
  Take();
  Answer(Verdict::kGranted, theirs);
  EXPECT_EQ(recovery_->state(), Recovery::State::kDeposed);
  EXPECT_THAT(Take(), ElementsAre("stop"));
  Pass(config_.poll_ns);
  theirs.running = true;
  Answer(Verdict::kGranted, theirs);
  EXPECT_THAT(Take(), ElementsAre("read", "destroy"));
  recovery_->OnGuestsDestroyed(absl::InternalError("busy"), now_ns_);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kNotYet);
  Pass(config_.poll_ns);
  EXPECT_THAT(Take(), ElementsAre("destroy"));
  recovery_->OnGuestsDestroyed(absl::OkStatus(), now_ns_);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kDestroyed);
}

TEST_F(RecoveryTest, ATermWhoseOwnerNeverRunsIsTakenBack) {
  Start();
  Register theirs = Value(kTheirs, RegisterMode::kSolo, 4);
  theirs.running = false;
  for (int64_t passed = 0; passed <= config_.takeback_ns; passed += config_.poll_ns) {
    EXPECT_THAT(Take(), Not(Contains("ask solo term 5")));
    Answer(Verdict::kGranted, theirs);
    Pass(config_.poll_ns);
  }
  EXPECT_THAT(Take(), Contains("ask solo term 5"));
  Answer(Verdict::kGranted, asked_);
  EXPECT_THAT(Take(), Contains("resume"));
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kOpen);
}

TEST_F(RecoveryTest, WithoutAnAnswerTheGuestsArePausedInTheEnd) {
  Start();
  Silence();
  Pass(config_.patience_ns);
  EXPECT_THAT(Take(), Contains("stop"));
  Answer(Verdict::kGranted, Value(kOurs, RegisterMode::kPromotable));
  Answer(Verdict::kGranted, asked_);
  EXPECT_THAT(Take(), Contains("resume"));
}

TEST_F(RecoveryTest, AMissingRegisterOpensNothing) {
  Start();
  Answer(Verdict::kGranted, std::nullopt);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kNotYet);
  Pass(config_.poll_ns);
  EXPECT_THAT(Take(), Contains("read"));
}

TEST_F(RecoveryTest, WhatLastsIsToldOnce) {
  Start();
  reports_.clear();
  for (int i = 0; i < 5; ++i) {
    Answer(Verdict::kGranted, std::nullopt);
    Pass(config_.poll_ns);
  }
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("the register is gone")));
}

TEST_F(RecoveryTest, ANewCopyBeginsWhereThereIsNoRegisterAndYieldsToAnotherOwner) {
  Start({.owner = kOurs, .is_new = true});
  Answer(Verdict::kGranted, std::nullopt);
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kAbsent);
  Start({.owner = kOurs, .is_new = true});
  Answer(Verdict::kGranted, Value(kTheirs, RegisterMode::kSolo));
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kRefused);
  EXPECT_THAT(Take(), Not(Contains("destroy")));
}

TEST_F(RecoveryTest, ANewCopyTakesOverWhatAnEarlierOneOfItsNodeHasLeft) {
  Start({.owner = kOurs, .is_new = true});
  Answer(Verdict::kGranted, Value("a.00000000000000ff", RegisterMode::kNone));
  EXPECT_THAT(Take(), Contains("ask solo term 4"));
  Start({.owner = kOurs, .is_new = true});
  Answer(Verdict::kGranted, Value("a.00000000000000ff", RegisterMode::kPromotable));
  EXPECT_EQ(recovery_->outcome(), Recovery::Outcome::kRefused) << "it may be running elsewhere";
}

}  // namespace
}  // namespace haven
