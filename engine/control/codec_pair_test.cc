// SPDX-License-Identifier: Apache-2.0
//
// Engine and session over shared memory with coded pages: what is promoted equals the guest.
#include <iterator>
#include <string>

#include "engine/codec/codec_mode.h"
#include "engine/control/shm_pair_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

class CodecPairTest : public ShmPair, public testing::TestWithParam<CodecMode> {
 protected:
  CodecPairTest() {
    CodecStageOptions& codec = engine_options_.driver.codec;
    codec.enabled = true;
    codec.mode = GetParam();
    codec.cache_bytes = 100 * kPageBytes;
    codec.hashes = true;
    engine_options_.copy_workers = 1;
    session_options_.driver.apply_threads = 2;
  }
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
    EXPECT_GT(status.counters.kept_logs, 0u);
    EXPECT_LT(status.counters.kept_logs, status.counters.epochs);
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
