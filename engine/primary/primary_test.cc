// SPDX-License-Identifier: Apache-2.0
//
// Single steps of the primary's protocol; tests/sim runs it against faults of every kind.
#include "engine/primary/primary.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Writes down what is asked for.
class Recorder final : public PrimaryActions, public ArbiterPort, public IdSource {
 public:
  void RequestSuspend(uint32_t domain) override { Note(absl::StrCat("suspend ", domain)); }
  void ResumeGuest(uint32_t domain) override { Note(absl::StrCat("resume ", domain)); }
  void HoldOutput() override { Note("hold"); }
  void Barrier() override { Note("barrier"); }
  void ReleaseOutput() override { Note("release"); }
  void OpenOutput() override { Note("open"); }
  void RebuildOutput() override { Note("rebuild"); }
  void Capture(EpochKind kind) override {
    Note(kind == EpochKind::kSync ? "capture sync" : "capture");
  }
  void Send(const SendOrder& order) override { Note(absl::StrCat("send ", order.epoch)); }
  void CommitDirty() override { Note("commit dirty"); }
  void RestoreDirty() override { Note("restore dirty"); }
  void MarkAllDirty() override { Note("all dirty"); }
  void OpenSession(SessionId, const ReplicaBase&) override { Note("open session"); }
  void OpenLink(SessionId, LinkNumber link) override { Note(absl::StrCat("open link ", link)); }
  void CloseLink() override { Note("close link"); }
  void DropSession(SessionId, DropReason reason, const char*) override {
    Note(absl::StrCat("drop ", static_cast<int>(reason)));
  }
  void SendHandover(SessionId, Epoch epoch) override { Note(absl::StrCat("handover ", epoch)); }
  void Report(const char* cause) override {
    if (cause != nullptr) reports.emplace_back(cause);
  }

  void SubmitRead() override { Note("read"); }
  void SubmitChange(const RegisterRequest& request) override {
    asked = request.desired;
    Note(absl::StrCat("ask ", std::string(RegisterModeName(request.desired.mode))));
  }
  uint64_t NextId() override { return ++ids_; }

  // What was asked for since the last call.
  std::vector<std::string> Take() { return std::exchange(notes_, {}); }

  std::optional<Register> asked;
  std::vector<std::string> reports;

 private:
  void Note(std::string what) { notes_.push_back(std::move(what)); }

  std::vector<std::string> notes_;
  uint64_t ids_ = 0;
};

class PrimaryTest : public ::testing::Test {
 protected:
  static constexpr int64_t kMs = kNsPerMs;

  void Grant() { Answer({.verdict = Verdict::kGranted, .current = recorder_.asked, .cause = {}}); }
  void Answer(const RegisterAnswer& answer) { primary_.OnArbiterAnswer(answer, now_ns_); }
  void Output(OutputOp op, absl::Status status = absl::OkStatus()) {
    primary_.OnOutput(op, status, now_ns_);
  }
  void Captured(CaptureReport report = {.pages = 10}) { primary_.OnCaptured(report, now_ns_); }
  void Ack() {
    primary_.OnAck(primary_.session(), primary_.link(), primary_.epoch_in_flight(), now_ns_);
  }
  void Pass(int64_t ns) {
    now_ns_ += ns;
    primary_.OnTick(now_ns_);
  }

  void Syncing() {
    primary_.Start(std::nullopt, now_ns_);
    Grant();
    primary_.OnSession(primary_.session(), true, false, now_ns_);
    primary_.OnLinkUp(primary_.link(), kNoEpoch, now_ns_);
    Captured();
    Ack();  // Small enough: next comes the first checkpoint.
    ASSERT_EQ(primary_.phase(), Primary::Phase::kStopping);
  }

  // From stopping guests to a checkpoint that is on the wire.
  void Checkpoint(bool first) {
    primary_.OnGuestSuspended(0, now_ns_);
    if (first) Output(OutputOp::kHold);
    if (primary_.phase() == Primary::Phase::kBarrier) Output(OutputOp::kBarrier);
    Captured();
    if (primary_.phase() == Primary::Phase::kResuming) primary_.OnGuestRunning(0, now_ns_);
  }

  void Protected() {
    Syncing();
    Checkpoint(true);
    Ack();
    Output(OutputOp::kRelease);
    Grant();
    ASSERT_EQ(primary_.state(now_ns_), ProtectionState::kProtected);
    recorder_.Take();
  }

  Recorder recorder_;
  PrimaryConfig config_ = [] {
    PrimaryConfig config;
    config.owner = "a.0000000000000001";
    return config;
  }();
  Primary primary_{config_, recorder_, recorder_, recorder_};
  int64_t now_ns_ = 1000 * kNsPerSecond;
};

TEST_F(PrimaryTest, AnEpochGoesThroughItsStepsInOrder) {
  Protected();
  Pass(config_.interval_ns);
  Checkpoint(false);
  Ack();
  EXPECT_THAT(recorder_.Take(), ElementsAre("suspend 0", "barrier", "capture", "resume 0", "send 3",
                                            "commit dirty", "release"));
}

TEST_F(PrimaryTest, AGuestThatSomebodyLetsGoOnIsStoppedAnew) {
  Protected();
  Pass(config_.interval_ns);
  primary_.OnGuestSuspended(0, now_ns_);
  Output(OutputOp::kBarrier);
  recorder_.Take();
  for (int i = 0; i < 2; ++i) {
    Captured({.result = CaptureReport::Result::kGuestRuns});
    EXPECT_THAT(recorder_.Take(), ElementsAre("resume 0")) << "the others of a group stand";
    primary_.OnGuestRunning(0, now_ns_);
    EXPECT_THAT(recorder_.Take(), ElementsAre("suspend 0"));
    primary_.OnGuestSuspended(0, now_ns_);
    EXPECT_THAT(recorder_.Take(), ElementsAre("capture")) << "the mark stands";
  }
  EXPECT_THAT(recorder_.reports, Contains(HasSubstr("lets a guest go on")));
  EXPECT_FALSE(primary_.wants_solo());
  Captured({.result = CaptureReport::Result::kGuestRuns});
  EXPECT_TRUE(primary_.wants_solo()) << "nothing would ever be committed";
}

TEST_F(PrimaryTest, AShorterIntervalDoesNotWaitForTheEndOfALongOne) {
  Protected();
  primary_.SetInterval(3600 * kNsPerSecond, now_ns_);
  Pass(config_.interval_ns);
  Checkpoint(false);
  Ack();
  Output(OutputOp::kRelease);
  recorder_.Take();
  Pass(config_.interval_ns);
  EXPECT_THAT(recorder_.Take(), IsEmpty()) << "the long one has begun";
  primary_.SetInterval(kNsPerMs, now_ns_);
  Pass(kNsPerMs);
  EXPECT_THAT(recorder_.Take(), ElementsAre("suspend 0"));
}

TEST_F(PrimaryTest, AnOlderAcknowledgementDoesNotRebuildTheOutput) {
  Protected();
  Pass(config_.interval_ns);
  Checkpoint(false);  // Epoch 3 is on the wire and the guests run on.
  primary_.OnOutputBroken(now_ns_);
  primary_.OnGuestSuspended(0, now_ns_);  // With work that epoch 3 does not have.
  recorder_.Take();
  Ack();
  EXPECT_THAT(recorder_.Take(), ElementsAre("commit dirty", "capture"))
      << "what they have done since";
  Captured();
  EXPECT_THAT(recorder_.Take(), ElementsAre("send 4")) << "and they stay stopped";
  Ack();
  EXPECT_THAT(recorder_.Take(), ElementsAre("commit dirty", "rebuild"));
  Output(OutputOp::kRebuild);
  EXPECT_THAT(recorder_.Take(), Contains("barrier"));
}

TEST_F(PrimaryTest, AHandoverWaitsForTheStateInWhichTheGuestsStopped) {
  Protected();
  Pass(config_.interval_ns);
  Checkpoint(false);
  ASSERT_TRUE(primary_.Handover(now_ns_).ok());
  primary_.OnGuestSuspended(0, now_ns_);
  Ack();
  Output(OutputOp::kRelease);
  Output(OutputOp::kBarrier);
  Captured();
  EXPECT_THAT(recorder_.Take(), Not(Contains("handover 3")));
  Ack();
  Output(OutputOp::kRelease);
  EXPECT_THAT(recorder_.Take(), Contains("handover 4"));
}

TEST_F(PrimaryTest, UnprotectTakesBackARequestToStop) {
  Protected();
  Pass(config_.interval_ns);
  ASSERT_EQ(primary_.phase(), Primary::Phase::kStopping);
  primary_.Unprotect(now_ns_);
  recorder_.Take();
  Grant();
  const std::vector<std::string> notes = recorder_.Take();
  EXPECT_THAT(notes, Contains("resume 0"));
  EXPECT_THAT(notes, Contains("open"));
  EXPECT_THAT(notes, Contains(absl::StrCat("drop ", static_cast<int>(DropReason::kUnprotect))));
  EXPECT_EQ(primary_.end(), PrimaryEnd::kUnprotected);
}

TEST_F(PrimaryTest, UnprotectInTheMiddleOfACaptureLeavesNobodyStopped) {
  Protected();
  Pass(config_.interval_ns);
  primary_.OnGuestSuspended(0, now_ns_);
  Output(OutputOp::kBarrier);
  ASSERT_EQ(primary_.phase(), Primary::Phase::kCapturing);
  primary_.Unprotect(now_ns_);
  Grant();
  EXPECT_THAT(recorder_.Take(), Contains("resume 0"));
  Captured();
  EXPECT_THAT(recorder_.Take(), ElementsAre());
}

TEST_F(PrimaryTest, LooksForNoBackupWhileTheProtectionIsToEnd) {
  Syncing();
  primary_.Unprotect(now_ns_);
  recorder_.Take();
  Pass(10 * config_.session_retry_ns);
  EXPECT_THAT(recorder_.Take(), Not(Contains("open session")));
}

TEST_F(PrimaryTest, AnEpochThatIsCarriedMayTakeLongerThanTheRearmDeadline) {
  Protected();
  Pass(config_.interval_ns);
  Checkpoint(false);
  for (int64_t passed = 0; passed < 3 * config_.rearm_ns; passed += config_.progress_ns / 2) {
    primary_.OnSendProgress(now_ns_);
    primary_.OnPeerSign(now_ns_);
    Pass(config_.progress_ns / 2);
  }
  EXPECT_FALSE(primary_.wants_solo());
  Ack();
  EXPECT_EQ(primary_.state(now_ns_), ProtectionState::kProtected);
}

TEST_F(PrimaryTest, AGuestWithOtherDevicesIsToRunAloneWhileEpochsGoOn) {
  Protected();
  primary_.OnDevicesChanged(now_ns_);
  EXPECT_TRUE(primary_.wants_solo());
  std::vector<std::string> actions = recorder_.Take();
  EXPECT_THAT(actions, Contains("ask solo"));
  EXPECT_THAT(actions, Not(Contains("close link")));
  Pass(config_.interval_ns);
  Checkpoint(false);
  Ack();
  EXPECT_TRUE(primary_.wants_solo());
  Grant();
  EXPECT_EQ(primary_.role(), Primary::Role::kUnprotected);
}

TEST_F(PrimaryTest, OtherDevicesStayAReasonForSoloThatTheArbiterHasNotHeardYet) {
  Syncing();
  Checkpoint(true);
  Ack();
  Output(OutputOp::kRelease);
  ASSERT_THAT(recorder_.Take(), Contains("ask promotable"));
  primary_.OnDevicesChanged(now_ns_);
  Pass(config_.interval_ns);
  Checkpoint(false);
  Ack();
  Output(OutputOp::kRelease);
  EXPECT_TRUE(primary_.wants_solo()) << "an acknowledgement does not change the reason";
  EXPECT_THAT(recorder_.Take(), Not(Contains("ask solo"))) << "`promotable` is still asked for";
  Grant();
  EXPECT_THAT(recorder_.Take(), Contains("ask solo"));
  Grant();
  EXPECT_EQ(primary_.role(), Primary::Role::kUnprotected);
}

TEST_F(PrimaryTest, AnEpochWithoutProgressCostsTheLinkAndThenTheProtection) {
  Protected();
  Pass(config_.interval_ns);
  Checkpoint(false);
  // The backup is alive all the time: it is the link that carries nothing.
  const auto pass = [&](int64_t ns) {
    for (int64_t passed = 0; passed < ns; passed += config_.detect_ns / 2) {
      primary_.OnPeerSign(now_ns_);
      Pass(config_.detect_ns / 2);
    }
  };
  pass(config_.progress_ns);
  EXPECT_THAT(recorder_.Take(), Contains("close link"));
  EXPECT_FALSE(primary_.wants_solo());
  pass(config_.rearm_ns);
  EXPECT_TRUE(primary_.wants_solo());
  EXPECT_THAT(recorder_.Take(), Contains("ask solo"));
}

TEST_F(PrimaryTest, AFirstCheckpointThatNeverFitsIsTriedLessAndLessOften) {
  Syncing();
  const auto fail = [&] {
    for (int i = 0; i < 3; ++i) {
      primary_.OnGuestSuspended(0, now_ns_);
      Output(OutputOp::kHold);
      if (primary_.phase() == Primary::Phase::kBarrier) Output(OutputOp::kBarrier);
      Captured({.result = CaptureReport::Result::kTooLarge});
      Output(OutputOp::kOpen);
      primary_.OnGuestRunning(0, now_ns_);
      if (primary_.session() == kNoSession) return;
      Captured();
      Ack();
    }
  };
  fail();
  EXPECT_EQ(primary_.session(), kNoSession);
  recorder_.Take();
  Pass(config_.session_retry_ns);
  EXPECT_THAT(recorder_.Take(), Not(Contains("open session")));
  Pass(config_.session_retry_ns);
  EXPECT_THAT(recorder_.Take(), Contains("open session"));
}

TEST_F(PrimaryTest, AReleaseThatFailsForTheFirstCheckpointRebuildsTheBuffer) {
  Syncing();
  Checkpoint(true);
  Ack();
  Output(OutputOp::kRelease, absl::UnavailableError("gone"));
  EXPECT_EQ(primary_.phase(), Primary::Phase::kStopping);
  recorder_.Take();
  primary_.OnGuestSuspended(0, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("capture")) << "no second mark";
}

TEST_F(PrimaryTest, AnotherOwnerInAnAnswerDeposesAtOnce) {
  Protected();
  primary_.OnPeerPromoted(now_ns_);
  Register other = *recorder_.asked;
  other.owner = "b.0000000000000002";
  ++other.term;
  Answer({.verdict = Verdict::kGranted, .current = other, .cause = {}});
  EXPECT_EQ(primary_.end(), PrimaryEnd::kDeposed);
  EXPECT_THAT(recorder_.Take(), Not(Contains("open")));
}

TEST_F(PrimaryTest, NothingIsReleasedOnTheWordOfAnotherLink) {
  Protected();
  Pass(config_.interval_ns);
  Checkpoint(false);
  recorder_.Take();
  primary_.OnAck(primary_.session(), primary_.link() - 1, primary_.epoch_in_flight(), now_ns_);
  primary_.OnAck(primary_.session() + 1, primary_.link(), primary_.epoch_in_flight(), now_ns_);
  primary_.OnAck(primary_.session(), primary_.link(), primary_.epoch_in_flight() + 1, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre());
}

TEST_F(PrimaryTest, WhatTheRegisterHasEndedIsNotBegunAnew) {
  Syncing();
  primary_.OnGuestSuspended(0, now_ns_);
  ASSERT_EQ(primary_.phase(), Primary::Phase::kHolding);
  primary_.OnPeerPromoted(now_ns_);
  Register other = *recorder_.asked;
  other.owner = "b.0000000000000002";
  ++other.term;
  Answer({.verdict = Verdict::kGranted, .current = other, .cause = {}});
  ASSERT_EQ(primary_.end(), PrimaryEnd::kDeposed);
  recorder_.Take();
  Output(OutputOp::kHold, absl::UnavailableError("gone"));
  primary_.Unprotect(now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre());
  EXPECT_EQ(primary_.role(), Primary::Role::kEnded);
}

TEST_F(PrimaryTest, AGuestThatIsSeenRunningAfterTheEndIsNotStopped) {
  Protected();
  Pass(config_.interval_ns);
  primary_.OnGuestSuspended(0, now_ns_);
  Output(OutputOp::kBarrier);
  Captured();
  ASSERT_EQ(primary_.phase(), Primary::Phase::kResuming);
  primary_.OnOutputBroken(now_ns_);
  primary_.OnPeerPromoted(now_ns_);
  Register other = *recorder_.asked;
  other.owner = "b.0000000000000002";
  ++other.term;
  Answer({.verdict = Verdict::kGranted, .current = other, .cause = {}});
  recorder_.Take();
  primary_.OnGuestRunning(0, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre()) << "its guard sees to it";
}

// With the arbiter out of reach what is left of the group waits; nobody is asked again and again to
// stop who does not exist any more.
TEST_F(PrimaryTest, AGroupWhoseLastGuestHasEndedWaitsForTheRegister) {
  Protected();
  primary_.OnGuestEnded(0, now_ns_);
  EXPECT_THAT(recorder_.Take(), Contains("ask none"));
  Pass(config_.solo_patience_ns);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(primary_.phase(), Primary::Phase::kStopped);
    EXPECT_EQ(primary_.pause_reason(), PauseReason::kGuestEnded);
    Pass(config_.suspend_deadline_ns);
  }
  EXPECT_EQ(primary_.state(now_ns_), ProtectionState::kPaused);
  EXPECT_FALSE(primary_.wants_solo());
  Grant();
  EXPECT_EQ(primary_.end(), PrimaryEnd::kGuestEnded);
}

TEST_F(PrimaryTest, ProtectedMeansAnAcknowledgementOfThisOrTheLastEpochs) {
  Protected();
  Pass(config_.protected_age_ns);
  EXPECT_EQ(primary_.state(now_ns_), ProtectionState::kDegraded);
  primary_.SetInterval(10 * kNsPerSecond, now_ns_);
  EXPECT_EQ(primary_.state(now_ns_), ProtectionState::kProtected);
  EXPECT_EQ(primary_.state(now_ns_ + 30 * kNsPerSecond), ProtectionState::kDegraded);
}

TEST_F(PrimaryTest, ALogThatCanNotBeReadWhileTheGuestIsCopiedEndsTheAttempt) {
  primary_.Start(std::nullopt, now_ns_);
  Grant();
  primary_.OnSession(primary_.session(), true, false, now_ns_);
  primary_.OnLinkUp(primary_.link(), kNoEpoch, now_ns_);
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(recorder_.Take(), Contains("capture sync"));
    Captured({.result = CaptureReport::Result::kFailed});
    if (primary_.session() != kNoSession) Pass(config_.interval_ns);
  }
  EXPECT_EQ(primary_.session(), kNoSession);
  EXPECT_EQ(primary_.role(), Primary::Role::kUnprotected);
  recorder_.Take();
  Pass(config_.session_retry_ns);
  EXPECT_THAT(recorder_.Take(), Not(Contains("open session"))) << "less and less often";
  Pass(config_.session_retry_ns);
  EXPECT_THAT(recorder_.Take(), Contains("open session"));
}

// A checkpoint taken while the link is down has not been given to anybody.
TEST_F(PrimaryTest, ABackupThatProvesAnEpochNeverSentIsNotBelieved) {
  Protected();
  Pass(config_.interval_ns);
  primary_.OnGuestSuspended(0, now_ns_);
  Output(OutputOp::kBarrier);
  primary_.OnLinkDown(primary_.link(), now_ns_);
  Captured();
  primary_.OnGuestRunning(0, now_ns_);
  Pass(config_.link_retry_ns);
  recorder_.Take();
  primary_.OnLinkUp(primary_.link(), primary_.epoch_in_flight(), now_ns_);
  EXPECT_THAT(recorder_.Take(), Not(Contains("release")));
  EXPECT_TRUE(primary_.wants_solo());
}

TEST_F(PrimaryTest, AHandoverThatNoGuestStopsForIsOver) {
  Protected();
  ASSERT_TRUE(primary_.Handover(now_ns_).ok());
  Pass(config_.suspend_deadline_ns);
  ASSERT_EQ(primary_.phase(), Primary::Phase::kTakingBack);
  recorder_.reports.clear();
  Pass(config_.handover_ns);
  EXPECT_THAT(recorder_.reports, Not(Contains(HasSubstr("handover"))));
}

}  // namespace
}  // namespace haven
