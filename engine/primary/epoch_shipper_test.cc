// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_shipper.h"

#include <memory>
#include <string>
#include <vector>

#include "engine/base/manual_clock.h"
#include "engine/primary/fake_link.h"
#include "engine/primary/test_domain.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/immediate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kSlotBytes = kMinSlotBytes;
constexpr uint64_t kPagesPerSlot = 15;  // Incompressible ones.
constexpr JournalGeometry kGeometry{
    .slot_bytes = kSlotBytes, .ring_slots = 8, .pool_slots = 16, .extent_slots = 4};
constexpr SessionId kSession = 77;
constexpr LinkNumber kLink = 3;
constexpr uint64_t kPlenty = 1000;

class ShipperTest : public ::testing::Test {
 protected:
  ShipperTest() {
    std::vector<const GuestMemory*> memories = {&domain_.memory()};
    sets_ = std::make_unique<DirtySets>(memories);
    std::vector<Domain*> domains = {&domain_};
    staging_.resize(24 * uint64_t{kSlotBytes});
    scratch_.resize(EpochSender::kScratchBytes);
    peer_block_.resize(kPeerBlockBytes);
    builder_ = std::make_unique<EpochBuilder>(domains, *sets_, staging_, kSlotBytes, pool_, clock_);
    link_.AddRegion(1, staging_);
    link_.AddRegion(2, scratch_);
    link_.remote.resize(kGeometry.total_bytes());
    const SessionMemory memory = {
        .session = kSession,
        .geometry = kGeometry,
        .journal = {.key = 1, .base = 0, .bytes = kGeometry.total_bytes()},
        .staging = {.id = 1, .bytes = staging_},
        .scratch = {.id = 2, .bytes = scratch_},
        .peer_block = {.id = 3, .bytes = peer_block_},
        .max_write_bytes = 4096,
        .domain_count = 1};
    shipper_ = std::make_unique<EpochShipper>(memory, *builder_);
  }

  void BeginLink() { EXPECT_TRUE(shipper_->BeginLink(kLink, link_, 0, 0).ok()); }

  // Captures as many dirty pages as fill `slots` slots and ships them as the next epoch.
  void Ship(uint32_t slots) {
    for (uint64_t gfn = 0; gfn < slots * kPagesPerSlot; ++gfn) domain_.WritePage(gfn, ++writes_);
    ASSERT_TRUE(builder_->Fetch().status.ok());
    const CaptureResult captured = builder_->Capture(EpochKind::kSync, UINT64_MAX);
    ASSERT_EQ(captured.outcome, CaptureResult::Outcome::kCaptured);
    ASSERT_EQ(captured.slots, slots);
    ++epoch_;
    shipper_->Ship({.session = kSession,
                    .link = kLink,
                    .epoch = epoch_,
                    .base_epoch = epoch_ - 1,
                    .kind = EpochKind::kSync});
  }

  // What the backup would write; link and session may be others.
  void WriteAck(Ack ack) {
    EncodeAck(ack, std::span(peer_block_).subspan(kAckOffset).first<kAckBytes>());
  }
  static Ack AckOf(Epoch committed, uint64_t credits = kPlenty) {
    return {.session = kSession,
            .link = kLink,
            .committed_epoch = committed,
            .credits_granted = credits};
  }

  // Polls until there is nothing more to do; the sum of the news.
  EpochShipper::News PollAll() {
    EpochShipper::News sum;
    for (int i = 0; i < 10'000; ++i) {
      const EpochShipper::News news = shipper_->Poll();
      sum.failed |= news.failed;
      sum.progress |= news.progress;
      sum.wired |= news.wired;
      if (news.committed != kNoEpoch) sum.committed = news.committed;
      if (news.extents_wanted != 0) sum.extents_wanted = news.extents_wanted;
      if (!news.progress) return sum;
    }
    ADD_FAILURE() << "progress without end";
    return sum;
  }

  void Acknowledge() {
    PollAll();
    WriteAck(AckOf(epoch_));
    ASSERT_EQ(PollAll().committed, epoch_);
    sets_->DropInflight();
  }

  ManualClock clock_;
  CopyPool pool_{0};
  TestDomain domain_{"guest", 1024, 64};
  std::vector<std::byte> staging_, scratch_, peer_block_;
  FakeLink link_;
  std::unique_ptr<DirtySets> sets_;
  std::unique_ptr<EpochBuilder> builder_;
  std::unique_ptr<EpochShipper> shipper_;
  Epoch epoch_ = 0;
  uint64_t writes_ = 0;
};

TEST_F(ShipperTest, CommitsWhenTheBackupSaysSoAfterTheRecordWasPosted) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(3);
  const EpochShipper::News sent = PollAll();
  EXPECT_TRUE(sent.wired);
  EXPECT_FALSE(sent.failed);
  EXPECT_EQ(sent.committed, kNoEpoch);
  EXPECT_EQ(link_.posted.back().immediate, CommitImmediate(1));
  WriteAck(AckOf(1));
  EXPECT_EQ(PollAll().committed, 1u);
  WriteAck(AckOf(1, kPlenty + 1));
  EXPECT_EQ(PollAll().committed, kNoEpoch) << "once";
}

TEST_F(ShipperTest, AnAcknowledgementMayOvertakeTheCompletion) {
  BeginLink();
  link_.complete = false;
  WriteAck(AckOf(0));
  Ship(1);
  EXPECT_FALSE(PollAll().wired);
  WriteAck(AckOf(1));
  const EpochShipper::News news = PollAll();
  EXPECT_EQ(news.committed, 1u);
  EXPECT_FALSE(news.failed);
}

// Without a credit the record stays here, so the peer can not have it, whatever it says.
TEST_F(ShipperTest, AnAcknowledgementOfARecordThatWasNotPostedFailsTheLink) {
  BeginLink();
  WriteAck(AckOf(0, 0));
  Ship(3);
  EXPECT_FALSE(PollAll().failed);
  WriteAck(AckOf(1, 0));
  const EpochShipper::News news = PollAll();
  EXPECT_EQ(news.committed, kNoEpoch);
  EXPECT_TRUE(news.failed);
}

TEST_F(ShipperTest, AnAcknowledgementOfAnEpochThatWaitsForRoomFailsTheLink) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(12);
  EXPECT_EQ(PollAll().extents_wanted, 1u);
  WriteAck(AckOf(1));
  const EpochShipper::News news = PollAll();
  EXPECT_EQ(news.committed, kNoEpoch);
  EXPECT_TRUE(news.failed);
}

TEST_F(ShipperTest, AnAcknowledgementOfALaterEpochFailsTheLink) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(1);
  PollAll();
  WriteAck(AckOf(2));
  const EpochShipper::News news = PollAll();
  EXPECT_EQ(news.committed, kNoEpoch);
  EXPECT_TRUE(news.failed);
}

TEST_F(ShipperTest, OtherSessionsAndLinksSayNothing) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(1);
  PollAll();
  Ack other = AckOf(1);
  other.session = kSession + 1;
  WriteAck(other);
  EXPECT_EQ(PollAll().committed, kNoEpoch);
  other = AckOf(1);
  other.link = kLink - 1;
  WriteAck(other);
  const EpochShipper::News news = PollAll();
  EXPECT_EQ(news.committed, kNoEpoch);
  EXPECT_FALSE(news.failed);
}

TEST_F(ShipperTest, ATornSectionIsReadAgain) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(1);
  PollAll();
  WriteAck(AckOf(1));
  peer_block_[kAckOffset + 24] ^= std::byte{1};
  EXPECT_EQ(PollAll().committed, kNoEpoch);
  peer_block_[kAckOffset + 24] ^= std::byte{1};
  EXPECT_EQ(PollAll().committed, 1u);
}

TEST_F(ShipperTest, WaitsForTheTailBeforeItWritesASlotAgain) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(5);
  Acknowledge();
  const size_t posted = link_.posted.size();
  Ship(5);
  PollAll();
  EXPECT_TRUE(shipper_->waiting_for_room());
  EXPECT_EQ(link_.posted.size(), posted);
  Ack ack = AckOf(1);
  ack.applied_epoch = 1;
  ack.ring_tail = 5;
  WriteAck(ack);
  PollAll();
  EXPECT_FALSE(shipper_->waiting_for_room());
  EXPECT_GT(link_.posted.size(), posted);
}

TEST_F(ShipperTest, UsesGrantedExtents) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(13);
  EXPECT_EQ(PollAll().extents_wanted, 2u);
  EXPECT_TRUE(shipper_->OnExtents(kLink, 1, std::vector<uint32_t>{3, 1}).ok());
  EXPECT_TRUE(PollAll().wired);
}

TEST_F(ShipperTest, RefusesAGrantThatDoesNotFit) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(13);
  PollAll();
  const auto refused = [&](std::vector<uint32_t> extents) {
    const absl::Status status = shipper_->OnExtents(kLink, 1, extents);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused({1}), HasSubstr("2 were asked for"));
  EXPECT_THAT(refused({1, 2, 3}), HasSubstr("2 were asked for"));
  EXPECT_THAT(refused({1, 1}), HasSubstr("named only once"));
  EXPECT_THAT(refused({1, 4}), HasSubstr("below 4"));
  // Nothing of a refused grant is kept.
  EXPECT_TRUE(shipper_->OnExtents(kLink, 1, std::vector<uint32_t>{0, 2}).ok());
  EXPECT_THAT(refused({0, 2}), HasSubstr("once"));
}

TEST_F(ShipperTest, OneCallPostsABoundedNumberOfRequests) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(8);  // 16 requests a chunk.
  shipper_->Poll();
  EXPECT_EQ(link_.posted.size(), EpochSender::kMaxPostsPerPump);
  EXPECT_TRUE(shipper_->Poll().progress);
}

TEST_F(ShipperTest, AFloodOfImmediatesEndsOneCall) {
  BeginLink();
  for (int i = 0; i < 100'000; ++i) {
    link_.injected.push_back({.kind = CompletionKind::kImmediate, .immediate = 1});
  }
  shipper_->Poll();
  EXPECT_GT(link_.injected.size(), 90'000u);
}

TEST_F(ShipperTest, RefusesPositionsThatMakeNoSense) {
  EXPECT_TRUE(absl::IsInvalidArgument(shipper_->BeginLink(kLink, link_, 3, 4)));
  EXPECT_TRUE(absl::IsInvalidArgument(shipper_->BeginLink(kLink, link_, 9, 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(shipper_->BeginLink(kLink, link_, UINT64_MAX, UINT64_MAX)));
}

TEST_F(ShipperTest, AFailedCompletionFailsTheLink) {
  BeginLink();
  WriteAck(AckOf(0));
  Ship(1);
  link_.injected.push_back({.id = 5, .result = CompletionResult::kPermission});
  link_.injected.push_back({.id = 6, .result = CompletionResult::kFlushed});
  EXPECT_TRUE(PollAll().failed);
  EXPECT_EQ(shipper_->failure(), LinkFailure::kPermission) << "the first one is the cause";
}

TEST_F(ShipperTest, AnAcknowledgementThatIsWholeAndWrongFailsTheLink) {
  BeginLink();
  Ack wrong = AckOf(0);
  wrong.applied_epoch = 1;  // Beyond what is committed.
  WriteAck(wrong);
  EXPECT_TRUE(PollAll().failed);
  EXPECT_EQ(shipper_->failure(), LinkFailure::kMalformed);
}

TEST_F(ShipperTest, ALinkThatTakesNoRequestHasFailed) {
  BeginLink();
  WriteAck(AckOf(0));
  link_.failed = true;
  Ship(1);
  EXPECT_TRUE(PollAll().failed);
  EXPECT_EQ(shipper_->failure(), LinkFailure::kOther);
}

}  // namespace
}  // namespace haven
