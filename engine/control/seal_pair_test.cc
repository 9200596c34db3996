// SPDX-License-Identifier: Apache-2.0
//
// Engine and session with a sealed journal, over shared memory whose channel has a secret.
#include <string>

#include "engine/control/faulty_transport_testing.h"
#include "engine/control/process_pair_testing.h"
#include "engine/replica/features.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

constexpr auto kSeal = static_cast<uint64_t>(Feature::kSeal);

// The parameter: whether pages are coded.
class SealPairTest : public testing::TestWithParam<bool> {
 protected:
  SealPairTest() {
    engine_faults_.secret = backup_faults_.secret = true;
    backup_faults_.revoke_by_word = true;
    engine_options_.offer.required = kSeal;
    engine_options_.copy_workers = 1;
    engine_options_.driver.codec.enabled = GetParam();
    engine_options_.driver.codec.mode = GetParam() ? CodecMode::kBoth : CodecMode::kOff;
    session_options_.driver.apply_threads = 2;
    session_options_.setup.offer.optional |= kSeal;
  }

  void Start() {
    backup_.emplace(backup_transport_, address_, session_options_, factory_, arbiter_);
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
  TestGuest guest_{"g1", 300, wire_};
  EngineOptions engine_options_ = TestEngineOptions(address_);
  SessionOptions session_options_ = TestSessionOptions();
  std::optional<PairBackup> backup_;
  std::optional<TestEngine> engine_;
};

TEST_P(SealPairTest, LostLinksAndChannelsLeaveThePromotedCopyWhole) {
  Start();
  ASSERT_TRUE(engine_->Reaches("protected")) << engine_->Status().reason;
  ASSERT_TRUE(backup_->Reaches("protected"));
  ASSERT_TRUE(ReleasesMore(40));
  for (uint64_t links = 2; links < 5; ++links) {
    ++engine_faults_.broken_links;
    if (links == 3) ++engine_faults_.broken_channels;
    ASSERT_TRUE(WaitFor([&] { return engine_->Status().counters.links == links; }));
    ASSERT_TRUE(ReleasesMore());
  }
  EXPECT_EQ(backup_->sessions(), 1u);
  engine_->Destroy();
  ExpectWholePromotion();
}

TEST_P(SealPairTest, ABackupThatCanNotSealIsRefused) {
  session_options_.setup.offer.optional &= ~kSeal;
  Start();
  ASSERT_TRUE(WaitFor([&] {
    return engine_->Status().last_error.find("seal") != std::string::npos;
  })) << engine_->Status().last_error;
  EXPECT_EQ(engine_->Status().state, "unprotected");
}

TEST_P(SealPairTest, APrimaryThatDoesNotSealIsRefusedWhereItIsRequired) {
  session_options_.setup.offer.optional &= ~kSeal;
  session_options_.setup.offer.required = kSeal;
  engine_options_.offer.required = 0;
  Start();
  ASSERT_TRUE(WaitFor([&] {
    return engine_->Status().last_error.find("seal") != std::string::npos;
  })) << engine_->Status().last_error;
}

TEST_P(SealPairTest, AChannelWithoutASecretIsRefused) {
  engine_faults_.secret = backup_faults_.secret = false;
  Start();
  ASSERT_TRUE(WaitFor([&] {
    return engine_->Status().last_error.find("--seal") != std::string::npos;
  })) << engine_->Status().last_error;
}

INSTANTIATE_TEST_SUITE_P(Pages, SealPairTest, testing::Bool(), [](const auto& coded) {
  return std::string(coded.param ? "coded" : "plain");
});

}  // namespace
}  // namespace haven
