// SPDX-License-Identifier: Apache-2.0
//
// The primary's engine and the backup's session over shared memory, in one process.
#include <utility>

#include "absl/strings/match.h"
#include "engine/base/file_util.h"
#include "engine/control/shm_pair_testing.h"
#include "engine/control/status_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

class ProcessPairTest : public ShmPair, public testing::Test {
 protected:
  ProcessPairTest() {
    engine_options_.paths.status = folder_.File("engine.status");
    engine_options_.paths.events = folder_.File("engine.events");
  }

  std::string Events() {
    absl::StatusOr<std::string> events =
        ReadBoundedFile(engine_options_.paths.events, size_t{1} << 20);
    return events.ok() ? *std::move(events) : events.status().ToString();
  }
};

TEST_F(ProcessPairTest, ProtectsAndReleasesOutputOfCommittedEpochs) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected")) << engine_->Status().reason;
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore());
  const StatusSnapshot status = engine_->Status();
  EXPECT_EQ(status.link_state, "up");
  EXPECT_EQ(status.registered.mode, "promotable");
  EXPECT_EQ(status.registered.session, status.session);
  EXPECT_GT(status.epoch.committed, 0u);
  EXPECT_GT(status.pause.count, 0u);
  EXPECT_EQ(status.counters.links, 1u);
  EXPECT_EQ(backup_->Status().session, status.session);
  EXPECT_EQ(backup_->sessions(), 1u);
}

TEST_F(ProcessPairTest, UnprotectOpensTheOutputAndEndsTheEngine) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(engine_->loop().Unprotect(kTestPatience).ok());
  const EngineResult result = engine_->Join();
  EXPECT_EQ(result.end, PrimaryEnd::kUnprotected);
  ASSERT_TRUE(result.value.has_value());
  EXPECT_EQ(result.value->mode, RegisterMode::kNone);
  EXPECT_EQ(wire_.released, wire_.sent);
  EXPECT_TRUE(absl::IsUnavailable(engine_->loop().Unprotect(kTestPatience)));
}

TEST_F(ProcessPairTest, AGuestWhoseMemoryHasChangedIsLeftToAnotherEngine) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  guest_.ChangeMemory();
  const EngineResult result = engine_->Join();
  EXPECT_EQ(result.end, PrimaryEnd::kNotYet);
  EXPECT_TRUE(result.outdated);
  EXPECT_EQ(result.cause, "its memory has changed");
  ASSERT_TRUE(result.value.has_value());
  EXPECT_EQ(result.value->mode, RegisterMode::kSolo) << "first the register's word";
}

TEST_F(ProcessPairTest, AGuestWithANewNicThatIsNotProtectedYetGoesToAnotherEngine) {
  guest_.PlugNic();
  StartEngine();
  EXPECT_EQ(engine_->Join().cause, "its devices have changed");
}

TEST_F(ProcessPairTest, AGuestWithANewNicIsProtectedByAnotherEngine) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  guest_.PlugNic();
  const EngineResult result = engine_->Join();
  EXPECT_EQ(result.end, PrimaryEnd::kNotYet);
  EXPECT_TRUE(result.outdated);
  EXPECT_EQ(result.cause, "its devices have changed");
  ASSERT_TRUE(result.value.has_value());
  EXPECT_EQ(result.value->mode, RegisterMode::kSolo) << "first the register's word";
  EXPECT_THAT(Events(), testing::HasSubstr(R"("cause":"a guest has other devices than its copy")"));
}

TEST_F(ProcessPairTest, TheOutputOfAGuestThatSomebodyLetsGoOnIsNotRebuilt) {
  Start();
  ASSERT_TRUE(engine_->Reaches("protected"));
  guest_.BreakOutput();
  const std::string refused = R"("cause":"the output buffer can not be rebuilt")";
  ASSERT_TRUE(WaitFor([&] { return absl::StrContains(Events(), refused); }));
  ASSERT_TRUE(engine_->Reaches("protected"));
  EXPECT_TRUE(ReleasesMore());
}

TEST_F(ProcessPairTest, AnEpochThatEndsAtTheDirtyMarkFetchesTheLogOnce) {
  engine_options_.driver.protocol.interval_ns = 60 * kNsPerSecond;
  engine_options_.driver.dirty_mark_pages = 3 * kTestPagesPerStep;
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  const uint64_t epochs = engine_->Status().counters.epochs;
  const uint64_t fetches = guest_.fetches();
  ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.epochs >= epochs + 3; }));
  const uint64_t fetched = guest_.fetches() - fetches;
  EXPECT_LE(fetched, engine_->Status().counters.epochs - epochs);
  EXPECT_TRUE(ReleasesMore(1));
}

TEST_F(ProcessPairTest, ALostLinkIsReplacedAndOnlyTheDeltaIsSent) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  const SessionId session = engine_->Status().session;
  for (uint64_t links = 2; links < 5; ++links) {
    ++engine_faults_.broken_links;
    ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.links == links; }));
    ASSERT_TRUE(engine_->Reaches("protected"));
    ASSERT_TRUE(ReleasesMore());
    const CounterStatus counters = engine_->Status().counters;
    EXPECT_LT(counters.delta_pages, kPages / 2);
    // Each page on the wire as a whole, and the guest's state, at most.
    EXPECT_GT(counters.delta_bytes, 0u);
    EXPECT_LT(counters.delta_bytes, kPages * kPageBytes);
  }
  EXPECT_EQ(engine_->Status().session, session);
  EXPECT_EQ(backup_->sessions(), 1u);
  EXPECT_EQ(engine_faults_.connects, 1u) << "the control channel was alive all the time";
}

TEST_F(ProcessPairTest, ALostChannelIsOpenedAgainWhileTheLinkGoesOn) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  for (uint64_t connects = 2; connects < 5; ++connects) {
    ++engine_faults_.broken_channels;
    ASSERT_TRUE(WaitFor([&] { return engine_faults_.connects == connects; }));
    ASSERT_TRUE(ReleasesMore());
  }
  EXPECT_EQ(engine_->Status().counters.links, 1u);
  // The next link is asked for on it.
  ++engine_faults_.broken_links;
  ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.links == 2; }));
  ASSERT_TRUE(engine_->Reaches("protected"));
  EXPECT_EQ(engine_faults_.connects, 4u);
  EXPECT_EQ(backup_->sessions(), 1u);
}

TEST_F(ProcessPairTest, AChannelThatIsLostWithTheLinkIsReplacedTogetherWithIt) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  const SessionId session = engine_->Status().session;
  ++engine_faults_.broken_channels;
  ++engine_faults_.broken_links;
  ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.links == 2; }));
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore());
  EXPECT_EQ(engine_->Status().session, session);
  EXPECT_GE(engine_faults_.connects, 2u);
  EXPECT_EQ(backup_->sessions(), 1u);
}

TEST_F(ProcessPairTest, LanesThatFailedOnceDoNotStandInTheWayOfTheNextLink) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  engine_faults_.refuse_lanes = true;
  ++engine_faults_.broken_links;
  const uint64_t connects = engine_faults_.connects;
  // Each further try comes on a new channel, on which no lanes are left over.
  ASSERT_TRUE(WaitFor([&] { return engine_faults_.connects >= connects + 12; }));
  EXPECT_EQ(engine_->Status().counters.links, 1u);
  engine_faults_.refuse_lanes = false;
  ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.links == 2; }));
  ASSERT_TRUE(engine_->Reaches("protected"));
}

TEST_F(ProcessPairTest, AfterSoloTheOldReplicaIsTheBaseOfTheNextSession) {
  engine_options_.driver.protocol.rearm_ns = 300 * kNsPerMs;
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  const SessionId session = engine_->Status().session;
  engine_faults_.refuse_lanes = true;
  ++engine_faults_.broken_links;
  ASSERT_TRUE(WaitFor([&] { return arbiter_->value(kTestGroup)->mode == RegisterMode::kSolo; }));
  engine_faults_.refuse_lanes = false;
  ASSERT_TRUE(engine_->Reaches("protected"));
  const StatusSnapshot status = engine_->Status();
  EXPECT_NE(status.session, session);
  EXPECT_EQ(backup_->sessions(), 1u) << "the process that has the replica serves the new session";
  ASSERT_TRUE(ReleasesMore());
  engine_->Destroy();
  EXPECT_THAT(Events(), testing::HasSubstr(R"("cause":"copying what has changed")"));
}

TEST_F(ProcessPairTest, WithoutTheOldProcessTheNextSessionIsMadeAnew) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  backup_.reset();
  ASSERT_TRUE(WaitFor([&] { return arbiter_->value(kTestGroup)->mode == RegisterMode::kSolo; }));
  ASSERT_TRUE(ReleasesMore());
  StartBackup();
  ASSERT_TRUE(engine_->Reaches("protected"));
  EXPECT_EQ(backup_->sessions(), 1u);
  ASSERT_TRUE(ReleasesMore());
  engine_->Destroy();
  EXPECT_THAT(Events(), testing::Not(testing::HasSubstr("copying what has changed")));
}

TEST_F(ProcessPairTest, TheReplicaIsPromotedWhenTheEngineIsGone) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore());
  engine_->Destroy();
  ExpectWholePromotion();
  EXPECT_LE(PromotedStep(*backup_->newest().replicas()[0]), guest_.step());
  EXPECT_GE(backup_faults_.revoked, 1u);
  const SessionResult result = *backup_->newest_result();
  ASSERT_TRUE(result.value.has_value());
  EXPECT_EQ(result.value->owner, session_options_.driver.protocol.owner);
  EXPECT_TRUE(result.value->running);
}

TEST_F(ProcessPairTest, APromotionEndsWithACopyThatSomebodyElseHasDestroyed) {
  session_options_.paths = [this](const std::string&) {
    return StatusPaths{.status = folder_.File("session.status"),
                       .events = folder_.File("session.events")};
  };
  factory_.set_run_result(absl::NotFoundError("somebody has destroyed it"));
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  engine_->Destroy();
  ASSERT_TRUE(IsPromoted());
  EXPECT_TRUE(backup_->newest_result()->value->running);
  // The session's thread writes its last events after its result is known.
  EXPECT_TRUE(WaitFor([this] {
    const auto events = ReadBoundedFile(folder_.File("session.events"), size_t{1} << 20);
    return events.ok() && events->find("somebody has destroyed it") != std::string::npos;
  }));
}

TEST_F(ProcessPairTest, AnOperatorPromotesAndTheEngineIsDeposed) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(backup_->newest().Promote(kTestPatience).ok());
  ASSERT_TRUE(IsPromoted());
  const EngineResult result = engine_->Join();
  EXPECT_EQ(result.end, PrimaryEnd::kDeposed);
  ExpectWholePromotion();
}

TEST_F(ProcessPairTest, AHandoverLosesNoStep) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(engine_->loop().Handover(kTestPatience).ok());
  ASSERT_TRUE(IsPromoted());
  EXPECT_EQ(engine_->Join().end, PrimaryEnd::kDeposed);
  EXPECT_EQ(PromotedStep(*backup_->newest().replicas()[0]), guest_.step());
  EXPECT_EQ(wire_.released, guest_.step()) << "the last epoch's output was released";
}

TEST_F(ProcessPairTest, TheIntervalChangesWhileItRuns) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  EXPECT_TRUE(absl::IsInvalidArgument(engine_->loop().SetInterval(1, kTestPatience)));
  ASSERT_TRUE(engine_->loop().SetInterval(2 * kNsPerMs, kTestPatience).ok());
  EXPECT_EQ(engine_->Status().epoch.interval_ns, 2 * kNsPerMs);
  EXPECT_TRUE(ReleasesMore());
}

TEST_F(ProcessPairTest, AnEngineWithoutBackupKeepsTrying) {
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("unprotected"));
  ASSERT_TRUE(WaitFor([&] { return engine_faults_.connects >= 3; }));
  const StatusSnapshot status = engine_->Status();
  EXPECT_EQ(status.reason, "no backup has accepted a session");
  EXPECT_THAT(status.last_error, testing::HasSubstr("there is no such socket"));
  EXPECT_TRUE(ReleasesMore());
}

TEST_F(ProcessPairTest, AMuteArbiterIsNamedAndNothingIsProtected) {
  arbiter_->set_silent(true);
  StartBackup();
  StartEngine();
  ASSERT_TRUE(WaitFor([&] { return engine_->Status().arbiter.answer == "unknown"; }));
  EXPECT_EQ(engine_->Status().state, "unprotected");
  EXPECT_EQ(engine_->Status().arbiter.pending, "a new register");
  arbiter_->set_silent(false);
  EXPECT_TRUE(engine_->Reaches("protected"));
}

TEST_F(ProcessPairTest, StatusAndEventsAreWritten) {
  StartBackup();
  StartEngine();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(WaitFor([&] {
    const absl::StatusOr<StatusFile> file =
        ReadStatusFile(engine_options_.paths.status, SystemClock::Get());
    return file.ok() && file->snapshot.state == "protected" && !file->reading.stale;
  }));
  engine_->Destroy();
  EXPECT_THAT(Events(), testing::HasSubstr(R"("from":"unprotected","to":"syncing")"));
  EXPECT_THAT(Events(), testing::HasSubstr(R"("from":"syncing","to":"protected")"));
}

}  // namespace
}  // namespace haven
