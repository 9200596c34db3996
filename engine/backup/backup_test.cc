// SPDX-License-Identifier: Apache-2.0
//
// Single steps of the backup's protocol; tests/sim runs it against faults of every kind.
#include "engine/backup/backup.h"

#include <optional>
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
using ::testing::Not;

constexpr SessionId kSession = 11;
constexpr SessionId kOther = 12;

// Writes down what is asked for.
class Recorder final : public BackupActions, public ArbiterPort, public IdSource {
 public:
  void AcceptSession(SessionId session, bool) override { Note(absl::StrCat("accept ", session)); }
  void RefuseSession(SessionId session, const char*) override {
    Note(absl::StrCat("refuse ", session));
  }
  void OfferLink(SessionId, LinkNumber link, Epoch) override { Note(absl::StrCat("offer ", link)); }
  void CloseLink() override { Note("close link"); }
  void Acknowledge(SessionId, LinkNumber, Epoch epoch) override {
    Note(absl::StrCat("acknowledge ", epoch));
  }
  void Apply(Epoch epoch) override { Note(absl::StrCat("apply ", epoch)); }
  void CutOff() override { Note("cut off"); }
  void ReadFinal() override { Note("read"); }
  void Prepare() override { Note("prepare"); }
  void Run() override { Note("run"); }
  void Abandon() override { Note("abandon"); }
  void SendHandoverRefused(SessionId) override { Note("refuse handover"); }
  void SendPromoted(SessionId, Term) override { Note("promoted"); }
  void SendDrop(SessionId, const char*) override { Note("drop"); }
  void Report(const char*) override {}

  void SubmitRead() override { Note("ask"); }
  void SubmitChange(const RegisterRequest& request) override {
    asked = request.desired;
    Note(absl::StrCat("claim term ", request.desired.term,
                      request.desired.running ? " running" : ""));
  }
  uint64_t NextId() override { return ++ids_; }

  std::vector<std::string> Take() { return std::exchange(notes_, {}); }

  std::optional<Register> asked;

 private:
  void Note(std::string what) { notes_.push_back(std::move(what)); }

  std::vector<std::string> notes_;
  uint64_t ids_ = 100;
};

class BackupTest : public ::testing::Test {
 protected:
  void Answer(Verdict verdict, const std::optional<Register>& current) {
    backup_.OnArbiterAnswer({.verdict = verdict, .current = current, .cause = {}}, now_ns_);
  }
  void Grant() { Answer(Verdict::kGranted, recorder_.asked); }
  Register Value(RegisterMode mode, SessionId session = kNoSession) const {
    return {.term = 1, .owner = "a.0000000000000001", .mode = mode, .session = session, .stamp = 7};
  }
  void Pass(int64_t ns) {
    now_ns_ += ns;
    backup_.OnTick(now_ns_);
  }
  void Commit(Epoch epoch) {
    backup_.OnVerified(epoch, EpochKind::kCheckpoint, now_ns_);
    backup_.OnApplied(epoch, absl::OkStatus());
  }

  // A session with its first link.
  void Linked() {
    backup_.OnHello(kSession, kNoSession, kNoEpoch, now_ns_);
    backup_.OnLinkRequest(kSession, 1, now_ns_);
    backup_.OnLinkUp(1, now_ns_);
  }

  // A replica that the register names.
  void Standby() {
    Linked();
    Commit(1);
    backup_.OnTick(now_ns_);
    Answer(Verdict::kGranted, Value(RegisterMode::kPromotable, kSession));
    ASSERT_EQ(backup_.state(), Backup::State::kStandby);
    recorder_.Take();
  }

  Recorder recorder_;
  BackupConfig config_ = [] {
    BackupConfig config;
    config.owner = "b.0000000000000002";
    return config;
  }();
  Backup backup_{config_, recorder_, recorder_, recorder_};
  int64_t now_ns_ = 1000 * kNsPerSecond;
};

TEST_F(BackupTest, APromotionGoesThroughItsStepsInOrder) {
  Standby();
  Pass(config_.detect_ns);
  EXPECT_THAT(recorder_.Take(), ElementsAre("claim term 2"));
  Grant();
  EXPECT_THAT(recorder_.Take(), ElementsAre("cut off"));
  backup_.OnCutOff(absl::OkStatus());
  EXPECT_THAT(recorder_.Take(), ElementsAre("read"));
  backup_.OnFinalRead(2, EpochKind::kCheckpoint);
  EXPECT_THAT(recorder_.Take(), ElementsAre("apply 2"));
  backup_.OnApplied(2, absl::OkStatus());
  EXPECT_THAT(recorder_.Take(), ElementsAre("prepare"));
  backup_.OnPrepared(absl::OkStatus(), now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("claim term 2 running"));
  Grant();
  EXPECT_THAT(recorder_.Take(), ElementsAre("run"));
  backup_.OnRunning(absl::OkStatus(), now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("promoted"));
  EXPECT_EQ(backup_.end(), BackupEnd::kPromoted);
}

TEST_F(BackupTest, ACopyThatDoesNotStartIsTriedUntilItDoes) {
  Standby();
  Pass(config_.detect_ns);
  Grant();
  backup_.OnCutOff(absl::OkStatus());
  backup_.OnFinalRead(kNoEpoch, EpochKind::kSync);
  backup_.OnPrepared(absl::OkStatus(), now_ns_);
  Grant();
  for (int i = 0; i < 3; ++i) {
    recorder_.Take();
    backup_.OnRunning(absl::DeadlineExceededError("no answer"), now_ns_);
    EXPECT_EQ(backup_.end(), BackupEnd::kNotYet);
    Pass(config_.copy_retry_ns);
    EXPECT_THAT(recorder_.Take(), ElementsAre("run"));
  }
}

TEST_F(BackupTest, WithoutProofOfTheCutOffTheTermGoesBackAfterTheCopiesAreGone) {
  Standby();
  Pass(config_.detect_ns);
  Grant();
  recorder_.Take();
  backup_.OnCutOff(absl::InternalError("no proof"));
  EXPECT_THAT(recorder_.Take(), ElementsAre("abandon"));
  backup_.OnAbandoned(absl::OkStatus(), now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("claim term 3 running"));
  EXPECT_EQ(recorder_.asked->owner, "a.0000000000000001");
}

TEST_F(BackupTest, AStrangersHelloCostsTheSessionNothing) {
  Standby();
  backup_.OnHello(kOther, kNoSession, kNoEpoch, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  // Epochs and links go on meanwhile.
  backup_.OnVerified(2, EpochKind::kCheckpoint, now_ns_);
  backup_.OnApplied(2, absl::OkStatus());
  backup_.OnLinkRequest(kSession, 2, now_ns_);
  backup_.OnLinkUp(2, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("apply 2", "acknowledge 2", "offer 2"));
  Answer(Verdict::kGranted, Value(RegisterMode::kPromotable, kSession));
  EXPECT_THAT(recorder_.Take(), ElementsAre(absl::StrCat("refuse ", kOther)));
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
}

TEST_F(BackupTest, AReplicaThatStillReceivesIsNotGivenToAnotherSession) {
  Standby();
  backup_.OnHello(kOther, kNoSession, kNoEpoch, now_ns_);
  backup_.OnVerified(2, EpochKind::kCheckpoint, now_ns_);
  recorder_.Take();
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre(absl::StrCat("refuse ", kOther)));
}

TEST_F(BackupTest, AnotherSessionGetsTheReplicaWhenTheRegisterAllowsIt) {
  Standby();
  backup_.OnHello(kOther, kSession, 1, now_ns_);
  recorder_.Take();
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre("close link", absl::StrCat("accept ", kOther)));
  EXPECT_EQ(backup_.committed(), 1u);
}

TEST_F(BackupTest, APrimaryThatIsBackBeforeTheRegisterIsReadKeepsItsGuests) {
  Standby();
  // The arbiter has shown no register, so it is read before anything is asked for.
  backup_.OnHello(kOther, kNoSession, kNoEpoch, now_ns_);
  Answer(Verdict::kGranted, std::nullopt);
  Pass(config_.detect_ns);
  ASSERT_EQ(backup_.state(), Backup::State::kClaiming);
  recorder_.Take();
  backup_.OnPeerSign(now_ns_);
  Answer(Verdict::kGranted, Value(RegisterMode::kPromotable, kSession));
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
  EXPECT_THAT(recorder_.Take(), Not(Contains("claim term 2")));
}

TEST_F(BackupTest, ADropWhileThePromotionIsAskedForIsNotHeard) {
  Standby();
  backup_.OnVerified(2, EpochKind::kCheckpoint, now_ns_);
  Pass(config_.detect_ns);
  ASSERT_EQ(backup_.state(), Backup::State::kClaiming);
  backup_.OnApplied(2, absl::DataLossError("bad"));
  backup_.OnDrop(kSession, DropReason::kInternal, now_ns_);
  EXPECT_EQ(backup_.state(), Backup::State::kClaiming);
  recorder_.Take();
  Answer(Verdict::kDenied, Value(RegisterMode::kPromotable, kSession));
  EXPECT_THAT(recorder_.Take(), ElementsAre("drop", "close link", "abandon"));
}

TEST_F(BackupTest, AnArbiterThatSaysNoIsNotAskedAgainAtOnce) {
  Standby();
  Pass(config_.detect_ns);
  recorder_.Take();
  Answer(Verdict::kDenied, Value(RegisterMode::kPromotable, kSession));
  EXPECT_THAT(recorder_.Take(), ElementsAre());
  Pass(config_.register_poll_ns - 1);
  EXPECT_THAT(recorder_.Take(), Not(Contains("claim term 2")));
  Pass(1);
  EXPECT_THAT(recorder_.Take(), Contains("claim term 2"));
}

TEST_F(BackupTest, AReplicaIsDestroyedWhenTheProtectionHasEnded) {
  Standby();
  backup_.OnDrop(kSession, DropReason::kUnprotect, now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  Answer(Verdict::kGranted, Value(RegisterMode::kNone));
  EXPECT_THAT(recorder_.Take(), Contains("abandon"));
}

TEST_F(BackupTest, AWordOfThePrimaryDoesNotDestroyWhatTheRegisterNames) {
  Standby();
  backup_.OnDrop(kSession, DropReason::kUnprotect, now_ns_);
  Pass(0);
  Answer(Verdict::kGranted, Value(RegisterMode::kPromotable, kSession));
  EXPECT_THAT(recorder_.Take(), Not(Contains("abandon")));
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
}

TEST_F(BackupTest, ALostCopyGoesWhenTheRegisterNamesItNoMore) {
  Standby();
  backup_.OnCopyLost(now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("close link", "drop"));
  Pass(1);
  Answer(Verdict::kGranted, Value(RegisterMode::kPromotable, kSession));
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  // The primary is alive, and asks for solo.
  now_ns_ += config_.register_poll_ns;
  backup_.OnPeerSign(now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre("abandon"));
}

// Until then what is committed may be all that is left of the guest.
TEST_F(BackupTest, ALostCopyIsPromotedIfThePrimaryDiesAsWell) {
  Standby();
  backup_.OnCopyLost(now_ns_);
  recorder_.Take();
  Pass(config_.detect_ns);
  EXPECT_THAT(recorder_.Take(), ElementsAre("claim term 2"));
  Grant();
  EXPECT_THAT(recorder_.Take(), ElementsAre("cut off"));
}

TEST_F(BackupTest, ALostCopyWhosePromotionIsRefusedIsLookedAfter) {
  Standby();
  ASSERT_TRUE(backup_.Promote(now_ns_).ok());
  backup_.OnCopyLost(now_ns_);
  Pass(0);
  Answer(Verdict::kDenied, Value(RegisterMode::kPromotable, kSession));
  recorder_.Take();
  now_ns_ += config_.register_poll_ns;
  backup_.OnPeerSign(now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre("abandon"));
}

// The primary has asked for `promotable`, which is granted after the register was read here.
TEST_F(BackupTest, ALostCopyStaysWhileTheRegisterMayStillComeToNameIt) {
  Linked();
  Commit(1);
  backup_.OnCopyLost(now_ns_);
  Pass(0);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  recorder_.Take();
  now_ns_ += config_.register_poll_ns;
  backup_.OnPeerSign(now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  // What was asked before this word came may be an answer from before it.
  now_ns_ += 1;
  backup_.OnDrop(kSession, DropReason::kSolo, now_ns_);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
  now_ns_ += config_.register_poll_ns;
  backup_.OnPeerSign(now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre("abandon"));
}

TEST_F(BackupTest, ALostCopyGoesWhenThePrimaryAsksForAnotherSession) {
  Linked();
  Commit(1);
  backup_.OnCopyLost(now_ns_);
  Pass(0);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  recorder_.Take();
  backup_.OnHello(kSession, kNoSession, kNoEpoch, now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("refuse 11")) << "a late repetition says nothing new";
  backup_.OnHello(kOther, kSession, 1, now_ns_);
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("refuse 12", "ask"));
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre("abandon"));
}

TEST_F(BackupTest, ALostCopyGoesWhenThePrimaryIsLongSilent) {
  Linked();
  Commit(1);
  backup_.OnCopyLost(now_ns_);
  Pass(0);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  Pass(config_.detect_ns);  // The claim reads the register, which does not let this copy run.
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  ASSERT_EQ(backup_.state(), Backup::State::kStale);
  Pass(config_.register_poll_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_EQ(backup_.state(), Backup::State::kStale);
  Pass(config_.forget_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_EQ(backup_.state(), Backup::State::kAbandoning);
}

TEST_F(BackupTest, ALostCopyTakesNeitherALinkNorAnotherSession) {
  Standby();
  backup_.OnCopyLost(now_ns_);
  recorder_.Take();
  backup_.OnLinkRequest(kSession, 2, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("drop"));
  backup_.OnHello(kOther, kSession, 1, now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre("refuse 12"));
  backup_.OnCopyLost(now_ns_);
  EXPECT_THAT(recorder_.Take(), ElementsAre());
}

TEST_F(BackupTest, ACopyLostBeforeItWasWholeGoesAtOnce) {
  Linked();
  backup_.OnCopyLost(now_ns_);
  recorder_.Take();
  Pass(0);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), ElementsAre("abandon"));
}

TEST_F(BackupTest, AReplicaOfASilentPrimaryGoesWhenTheRegisterSaysThatNobodyIsProtected) {
  Standby();
  Pass(config_.detect_ns);
  Answer(Verdict::kDenied, Value(RegisterMode::kNone));
  ASSERT_EQ(backup_.state(), Backup::State::kStale);
  Pass(config_.register_poll_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kNone));
  EXPECT_THAT(recorder_.Take(), Not(Contains("abandon")));
  Pass(config_.forget_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kNone));
  EXPECT_THAT(recorder_.Take(), Contains("abandon"));
}

TEST_F(BackupTest, AnAnswerFromBeforeTheSilenceEndsNoReplica) {
  Linked();
  Commit(1);
  backup_.OnTick(now_ns_);
  EXPECT_THAT(recorder_.Take(), Contains("ask"));
  // The process stands still with the answer, and this session becomes promotable meanwhile.
  now_ns_ += config_.forget_ns;
  Answer(Verdict::kGranted, Value(RegisterMode::kNone));
  EXPECT_THAT(recorder_.Take(), Not(Contains("abandon")));
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
}

TEST_F(BackupTest, AReplicaOfASilentPrimaryIsKeptAsABaseWhileTheRegisterSaysSolo) {
  Standby();
  Pass(config_.detect_ns);
  Answer(Verdict::kDenied, Value(RegisterMode::kSolo));
  Pass(config_.forget_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_EQ(backup_.state(), Backup::State::kStale);
  Pass(config_.keep_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kSolo));
  EXPECT_THAT(recorder_.Take(), Contains("abandon"));
}

// Promotion was asked for before the register named the session, and since then nobody answers.
TEST_F(BackupTest, AReplicaThatTheRegisterMayNameIsKeptHoweverLongTheArbiterIsSilent) {
  Standby();
  Pass(config_.detect_ns);
  Answer(Verdict::kDenied, Value(RegisterMode::kSolo));
  ASSERT_EQ(backup_.state(), Backup::State::kStale);
  Pass(config_.register_poll_ns);
  Answer(Verdict::kUnknown, std::nullopt);
  Pass(10 * config_.keep_ns);
  Answer(Verdict::kUnknown, std::nullopt);
  EXPECT_THAT(recorder_.Take(), Not(Contains("abandon")));
  Pass(config_.arbiter_retry_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kPromotable, kSession));
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
}

TEST_F(BackupTest, AnIncompleteReplicaOfASilentPrimaryGoesOnTheRegistersWordOnly) {
  backup_.OnHello(kSession, kNoSession, kNoEpoch, now_ns_);
  Pass(config_.forget_ns - 1);
  backup_.OnPeerSign(now_ns_);
  Pass(1);
  EXPECT_THAT(recorder_.Take(), Not(Contains("ask")));
  Pass(config_.forget_ns - 1);
  EXPECT_THAT(recorder_.Take(), ElementsAre("ask"));
  Answer(Verdict::kUnknown, std::nullopt);
  EXPECT_THAT(recorder_.Take(), Not(Contains("abandon")));
  Pass(config_.forget_ns);
  Answer(Verdict::kGranted, Value(RegisterMode::kNone));
  EXPECT_THAT(recorder_.Take(), Contains("abandon"));
}

TEST_F(BackupTest, AnIncompleteReplicaWhosePrimaryIsBackIsStillIncomplete) {
  Linked();
  backup_.OnVerified(1, EpochKind::kSync, now_ns_);
  backup_.OnApplied(1, absl::OkStatus());
  backup_.OnDrop(kSession, DropReason::kInternal, now_ns_);
  ASSERT_EQ(backup_.state(), Backup::State::kStale);
  backup_.OnLinkRequest(kSession, 2, now_ns_);
  backup_.OnLinkUp(2, now_ns_);
  EXPECT_EQ(backup_.state(), Backup::State::kSyncing);
  recorder_.Take();
  Pass(config_.detect_ns);
  EXPECT_EQ(backup_.state(), Backup::State::kSyncing) << "there is nothing to claim";
  Commit(2);
  EXPECT_EQ(backup_.state(), Backup::State::kStandby);
}

TEST_F(BackupTest, AnIncompleteReplicaIsNeverPromoted) {
  Linked();
  backup_.OnVerified(1, EpochKind::kSync, now_ns_);
  Pass(10 * config_.detect_ns);
  EXPECT_TRUE(absl::IsFailedPrecondition(backup_.Promote(now_ns_)));
  EXPECT_THAT(recorder_.Take(), Not(Contains("claim term 2")));
}

}  // namespace
}  // namespace haven
