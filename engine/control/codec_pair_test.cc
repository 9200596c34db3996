// SPDX-License-Identifier: Apache-2.0
//
// Engine and session over shared memory with coded pages: what is promoted equals the guest.
#include <iterator>
#include <string>

#include "engine/codec/codec_mode.h"
#include "engine/control/faulty_transport_testing.h"
#include "engine/control/process_pair_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

class CodecPairTest : public testing::TestWithParam<CodecMode> {
 protected:
  static constexpr uint64_t kPages = 300;

  CodecPairTest() {
    backup_faults_.revoke_by_word = true;
    CodecStageOptions& codec = engine_options_.driver.codec;
    codec.enabled = true;
    codec.mode = GetParam();
    codec.cache_bytes = 100 * kPageBytes;
    codec.hashes = true;
    engine_options_.copy_workers = 1;
    session_options_.driver.apply_threads = 2;
  }

  void StartBackup() {
    backup_.emplace(backup_transport_, address_, session_options_, factory_, arbiter_);
  }
  void Start() {
    StartBackup();
    EngineSeams seams;
    seams.guests = {{&guest_, &guest_}};
    seams.output = &guest_;
    seams.transport = &engine_transport_;
    seams.arbiter = arbiter_;
    engine_.emplace(engine_options_, seams);
  }
  bool ReleasesMore(uint64_t steps = 20) {
    const uint64_t before = wire_.released;
    return WaitFor([&] { return wire_.released >= before + steps; });
  }
  // The backup's copy is what the guest was at the step that its state names.
  void ExpectWholePromotion() {
    ASSERT_TRUE(WaitFor([&] { return backup_->newest_result().has_value(); }));
    ASSERT_EQ(backup_->newest_result()->end, BackupEnd::kPromoted);
    const ReplicaDomain& replica = *backup_->newest().replicas()[0];
    const uint64_t step = PromotedStep(replica);
    EXPECT_GE(step, wire_.released) << "output of a later step has left";
    EXPECT_TRUE(IsTestStep(replica.memory(), step));
  }

  TestFolder folder_;
  const std::string address_ = "unix:" + folder_.File("backup.sock");
  ShmTransport shm_;
  TransportFaults engine_faults_;
  TransportFaults backup_faults_;
  FaultyTransport engine_transport_{shm_, engine_faults_};
  FaultyTransport backup_transport_{shm_, backup_faults_};
  const std::shared_ptr<TestArbiter> arbiter_ = std::make_shared<TestArbiter>();
  TestReplicaFactory factory_;
  TestWire wire_;
  TestGuest guest_{"g1", kPages, wire_};
  EngineOptions engine_options_ = TestEngineOptions(address_);
  SessionOptions session_options_ = TestSessionOptions();
  std::optional<PairBackup> backup_;
  std::optional<TestEngine> engine_;
};

TEST_P(CodecPairTest, ThePromotedCopyIsWhole) {
  Start();
  ASSERT_TRUE(engine_->Reaches("protected")) << engine_->Status().reason;
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore(60));
  const StatusSnapshot status = engine_->Status();
  EXPECT_TRUE(status.codec.agreed);
  EXPECT_EQ(status.codec.mode, CodecModeName(GetParam()));
  EXPECT_GT(status.codec.memory_bytes, 100 * kPageBytes);
  if (GetParam() != CodecMode::kAuto) {
    EXPECT_GT(status.codec.coded_epochs, 0u);
    // A few bytes change in each page.
    EXPECT_LT(status.epoch.wire_bytes, status.epoch.pages * kPageBytes / 4);
  }
  engine_->Destroy();
  ExpectWholePromotion();
}

TEST_P(CodecPairTest, LostLinksAndModesThatChangeLeaveItWhole) {
  constexpr CodecMode kModes[] = {CodecMode::kOff, CodecMode::kBoth, CodecMode::kFgbi,
                                  CodecMode::kLz4};
  Start();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  for (uint64_t links = 2; links < 8; ++links) {
    ++engine_faults_.broken_links;
    ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.links == links; }));
    ASSERT_TRUE(ReleasesMore());
    ASSERT_TRUE(engine_->loop().SetCodec(kModes[links % std::size(kModes)], kTestPatience).ok());
    ASSERT_TRUE(ReleasesMore());
  }
  EXPECT_EQ(backup_->sessions(), 1u);
  engine_->Destroy();
  ExpectWholePromotion();
}

// Solo, and then the old copy is the base of the next session: what the guest wrote meanwhile is
// not what the codec knows of the copy.
TEST_P(CodecPairTest, ACopyThatIsProtectedAgainIsWhole) {
  engine_options_.driver.protocol.rearm_ns = 300 * kNsPerMs;
  Start();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore());
  engine_faults_.refuse_lanes = true;
  ++engine_faults_.broken_links;
  ASSERT_TRUE(WaitFor([&] { return arbiter_->value(kTestGroup)->mode == RegisterMode::kSolo; }));
  engine_faults_.refuse_lanes = false;
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  EXPECT_EQ(backup_->sessions(), 1u);
  ASSERT_TRUE(ReleasesMore(60));
  engine_->Destroy();
  ExpectWholePromotion();
}

TEST_P(CodecPairTest, ANewCopyAfterALostBackupIsWhole) {
  Start();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore());
  backup_.reset();
  ASSERT_TRUE(WaitFor([&] { return arbiter_->value(kTestGroup)->mode == RegisterMode::kSolo; }));
  StartBackup();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore(60));
  EXPECT_TRUE(engine_->Status().codec.agreed);
  engine_->Destroy();
  ExpectWholePromotion();
}

TEST_P(CodecPairTest, ABackupThatKnowsNoCodedPagesGetsNone) {
  session_options_.setup.offer.optional = 0;
  Start();
  ASSERT_TRUE(engine_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore());
  const StatusSnapshot status = engine_->Status();
  EXPECT_FALSE(status.codec.agreed);
  EXPECT_EQ(status.codec.coded_epochs, 0u);
  engine_->Destroy();
  ExpectWholePromotion();
}

TEST_P(CodecPairTest, WithoutTheCodecItsModeCanNotBeSet) {
  engine_options_.driver.codec = CodecStageOptions{};
  Start();
  ASSERT_TRUE(engine_->Reaches("protected"));
  EXPECT_TRUE(absl::IsFailedPrecondition(engine_->loop().SetCodec(GetParam(), kTestPatience)));
  EXPECT_EQ(engine_->Status().codec.mode, "off");
}

INSTANTIATE_TEST_SUITE_P(Modes, CodecPairTest,
                         testing::Values(CodecMode::kAuto, CodecMode::kFgbi, CodecMode::kBoth),
                         [](const auto& mode) { return std::string(CodecModeName(mode.param)); });

}  // namespace
}  // namespace haven
