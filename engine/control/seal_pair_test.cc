// SPDX-License-Identifier: Apache-2.0
//
// Engine and session with a sealed journal, over shared memory whose channel has a secret.
#include <string>

#include "engine/control/shm_pair_testing.h"
#include "engine/replica/features.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr auto kSeal = static_cast<uint64_t>(Feature::kSeal);

// The parameter: whether pages are coded.
class SealPairTest : public ShmPair, public testing::TestWithParam<bool> {
 protected:
  SealPairTest() {
    engine_faults_.secret = backup_faults_.secret = true;
    engine_options_.offer.required = kSeal;
    engine_options_.copy_workers = 1;
    engine_options_.driver.codec.enabled = GetParam();
    engine_options_.driver.codec.mode = GetParam() ? CodecMode::kBoth : CodecMode::kOff;
    session_options_.driver.apply_threads = 2;
    session_options_.setup.offer.optional |= kSeal;
  }
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
