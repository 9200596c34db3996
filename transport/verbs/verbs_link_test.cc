// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/verbs_link.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine/base/manual_clock.h"
#include "engine/replica/control_block.h"
#include "transport/verbs/device_limits.h"
#include "transport/verbs/fake_queue_pair_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kReceiveTag = uint64_t{1} << 63;
constexpr uint32_t kRegion = 3;
constexpr uint64_t kRegionBytes = 8 << 20;

class FakeOwner final : public LinkOwner {
 public:
  absl::Status CutPending() override {
    ++cuts;
    return pending;
  }
  void NoteUndestroyed(const absl::Status& cause) override { undestroyed = cause; }

  int cuts = 0;
  absl::Status pending;
  absl::Status undestroyed;
};

class VerbsLinkTest : public ::testing::Test {
 protected:
  VerbsLinkTest() : memory_(kRegionBytes) {
    regions_.Add(kRegion, memory_, {111, 222});
    Make();
  }

  void Make() {
    link_ = std::make_unique<VerbsLink>(VerbsLinkParts{
        .pair = std::make_unique<FakeQueuePair>(device_),
        .local_rail = 1,
        .remote_rail = 1,
        .regions = &regions_,
        .owner = &owner_,
        .clock = &clock_,
        .options = {.request_timeout_ns = kNsPerSecond, .look_interval_ns = 10 * kNsPerMs}});
  }

  static WriteRequest Write(uint64_t id, uint32_t bytes = 4096, bool signaled = false) {
    return {.id = id,
            .local_region = kRegion,
            .remote = {.key = PackRemoteKeys({7, 9}), .base = 0x10000, .bytes = kRegionBytes},
            .remote_offset = 4096,
            .bytes = bytes,
            .signaled = signaled};
  }

  absl::Status Post(const WriteRequest& request) { return link_->PostWrites({&request, 1}); }

  std::vector<Completion> PollAll() {
    std::vector<Completion> all(256);
    all.resize(link_->Poll(all));
    return all;
  }

  static std::string Text(const std::vector<Completion>& all) {
    std::string text;
    for (const Completion& one : all) {
      text += std::to_string(one.id) + ":" + std::to_string(static_cast<int>(one.result)) + " ";
    }
    return text;
  }

  FakeDevice device_;
  FakeOwner owner_;
  ManualClock clock_{kNsPerSecond};
  std::vector<std::byte> memory_;
  RegionKeys regions_;
  std::unique_ptr<VerbsLink> link_;
};

TEST_F(VerbsLinkTest, AListIsOneDoorbellAndItsLastRequestIsSignalled) {
  std::vector<WriteRequest> list(16, Write(1));
  ASSERT_TRUE(link_->PostWrites(list).ok());
  EXPECT_EQ(device_.doorbells, 1);
  ASSERT_EQ(device_.sent.size(), 16u);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ((device_.sent[i].flags & IBV_SEND_SIGNALED) != 0, i == 15) << i;
  }
}

TEST_F(VerbsLinkTest, ALongListIsSignalledInBetween) {
  std::vector<WriteRequest> list(100, Write(1));
  ASSERT_TRUE(link_->PostWrites(list).ok());
  EXPECT_EQ(device_.doorbells, 2);
  uint32_t silent = 0;
  for (const FakeDevice::Sent& sent : device_.sent) {
    silent = (sent.flags & IBV_SEND_SIGNALED) != 0 ? 0 : silent + 1;
    EXPECT_LT(silent, SendQueue::kSignalEvery);
  }
  EXPECT_EQ(silent, 0u);
}

TEST_F(VerbsLinkTest, ARequestCarriesTheKeysOfItsRails) {
  WriteRequest request = Write(1);
  request.has_immediate = true;
  request.immediate = 0x01020304;
  ASSERT_TRUE(Post(request).ok());
  const FakeDevice::Sent& sent = device_.sent[0];
  EXPECT_EQ(sent.opcode, IBV_WR_RDMA_WRITE_WITH_IMM);
  EXPECT_EQ(sent.lkey, 222u);
  EXPECT_EQ(sent.rkey, 9u);
  EXPECT_EQ(sent.remote_address, 0x10000u + 4096);
  EXPECT_EQ(sent.immediate, htonl(0x01020304));
}

TEST_F(VerbsLinkTest, OnlySmallRequestsAreInline) {
  ASSERT_TRUE(Post(Write(1, 64)).ok());
  ASSERT_TRUE(Post(Write(2, 65)).ok());
  ASSERT_TRUE(Post(Write(3, 0)).ok());
  EXPECT_NE(device_.sent[0].flags & IBV_SEND_INLINE, 0u);
  EXPECT_EQ(device_.sent[1].flags & IBV_SEND_INLINE, 0u);
  EXPECT_EQ(device_.sent[2].flags & IBV_SEND_INLINE, 0u);
}

TEST_F(VerbsLinkTest, ADeviceWithoutInlineGetsNone) {
  device_.limits.inline_bytes = 0;
  Make();
  ASSERT_TRUE(Post(Write(1, 8)).ok());
  EXPECT_EQ(device_.sent.back().flags & IBV_SEND_INLINE, 0u);
}

// What the engine posts by itself: a heartbeat, a commit record, and one that is sealed.
TEST_F(VerbsLinkTest, ACommitRecordIsInlineWhereTheDeviceTakesWhatIsWanted) {
  device_.limits.inline_bytes = kWantedInlineBytes;
  Make();
  for (const uint64_t bytes : {kHeartbeatBytes, kCommitRecordBytes, kSealedRecordBytes}) {
    ASSERT_TRUE(Post(Write(1, static_cast<uint32_t>(bytes))).ok());
    EXPECT_NE(device_.sent.back().flags & IBV_SEND_INLINE, 0u) << bytes;
  }
}

TEST_F(VerbsLinkTest, ACommitRecordIsReadByADeviceThatTakesLessInline) {
  device_.limits.inline_bytes = 256;
  Make();
  ASSERT_TRUE(Post(Write(1, static_cast<uint32_t>(kHeartbeatBytes))).ok());
  EXPECT_NE(device_.sent.back().flags & IBV_SEND_INLINE, 0u);
  for (const uint64_t bytes : {kCommitRecordBytes, kSealedRecordBytes}) {
    ASSERT_TRUE(Post(Write(2, static_cast<uint32_t>(bytes))).ok());
    EXPECT_EQ(device_.sent.back().flags & IBV_SEND_INLINE, 0u) << bytes;
    EXPECT_EQ(device_.sent.back().lkey, 222u) << "it needs the region's key";
  }
}

TEST_F(VerbsLinkTest, OnlyWantedCompletionsAreReported) {
  std::vector<WriteRequest> list = {Write(1), Write(2, 4096, true), Write(3)};
  ASSERT_TRUE(link_->PostWrites(list).ok());
  device_.Complete(1);
  device_.Complete(2);
  EXPECT_EQ(Text(PollAll()), "2:0 ");
}

TEST_F(VerbsLinkTest, AFullQueueTakesNothing) {
  std::vector<WriteRequest> list(128, Write(1));
  ASSERT_TRUE(link_->PostWrites(list).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Post(Write(2))));
  EXPECT_TRUE(absl::IsResourceExhausted(link_->PostRead(3, kRegion, 0, Write(1).remote, 0, 8)));
  EXPECT_EQ(device_.sent.size(), 128u);
  device_.Complete(31);
  PollAll();
  EXPECT_TRUE(link_->PostWrites(std::span(list).first(32)).ok());
}

TEST_F(VerbsLinkTest, BadRequestsPostNothingAndTheLinkGoesOn) {
  std::vector<WriteRequest> bad(5, Write(1));
  bad[0].local_region = 99;
  bad[1].local_offset = kRegionBytes - 1;
  bad[2].remote_offset = UINT64_MAX;
  bad[3].bytes = (1 << 20) + 1;
  bad[4].remote.bytes = 100;
  for (const WriteRequest& request : bad) {
    const std::vector<WriteRequest> list = {Write(1), request};
    EXPECT_TRUE(absl::IsInvalidArgument(link_->PostWrites(list)));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(link_->PostWrites(std::vector<WriteRequest>(129, Write(1)))));
  EXPECT_TRUE(
      absl::IsInvalidArgument(link_->PostRead(1, kRegion, kRegionBytes, Write(1).remote, 0, 8)));
  EXPECT_TRUE(device_.sent.empty());
  EXPECT_TRUE(Post(Write(1)).ok());
}

TEST_F(VerbsLinkTest, AFailureIsReportedOnceAndTheRestIsFlushed) {
  std::vector<WriteRequest> list = {Write(1), Write(2), Write(3), Write(4)};
  ASSERT_TRUE(link_->PostWrites(list).ok());
  device_.Complete(1, IBV_WC_REM_INV_REQ_ERR);
  EXPECT_EQ(Text(PollAll()), "2:1 3:3 4:3 ") << "the silent one before it is fine";
  EXPECT_TRUE(device_.in_error);
  EXPECT_TRUE(PollAll().empty());
  const absl::Status status = Post(Write(5));
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("refuses"));
  EXPECT_TRUE(absl::IsUnavailable(link_->ArmEvent()));
  EXPECT_TRUE(absl::IsUnavailable(link_->PostReceives(1)));
}

TEST_F(VerbsLinkTest, WhatTheDeviceFlushesAfterwardsIsNotReportedTwice) {
  std::vector<WriteRequest> list = {Write(1), Write(2), Write(3)};
  ASSERT_TRUE(link_->PostWrites(list).ok());
  device_.Complete(0, IBV_WC_RETRY_EXC_ERR);
  std::vector<Completion> one(1);
  ASSERT_EQ(link_->Poll(one), 1u);
  EXPECT_EQ(Text(one), "1:2 ");
  device_.Complete(1, IBV_WC_WR_FLUSH_ERR);
  device_.Complete(2, IBV_WC_WR_FLUSH_ERR);
  EXPECT_EQ(Text(PollAll()), "2:3 3:3 ");
  EXPECT_TRUE(PollAll().empty());
}

TEST_F(VerbsLinkTest, AFlushWithoutAReasonMeansThatThePeerLeft) {
  ASSERT_TRUE(Post(Write(1)).ok());
  ASSERT_TRUE(Post(Write(2)).ok());
  device_.Complete(0, IBV_WC_WR_FLUSH_ERR);
  EXPECT_EQ(Text(PollAll()), "1:2 2:3 ");
}

TEST_F(VerbsLinkTest, ImmediatesArriveAndUseUpReceives) {
  ASSERT_TRUE(link_->PostReceives(64).ok());
  EXPECT_EQ(device_.receives, 64u);
  EXPECT_TRUE(absl::IsResourceExhausted(link_->PostReceives(1)));
  device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM, htonl(42));
  const std::vector<Completion> got = PollAll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].kind, CompletionKind::kImmediate);
  EXPECT_EQ(got[0].immediate, 42u);
  EXPECT_TRUE(link_->PostReceives(1).ok());
}

TEST_F(VerbsLinkTest, ImmediatesOfAPeerThatLeftAreStillDelivered) {
  ASSERT_TRUE(link_->PostReceives(2).ok());
  ASSERT_TRUE(Post(Write(1)).ok());
  device_.Complete(0, IBV_WC_RETRY_EXC_ERR);
  device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM, htonl(8));
  device_.Complete(kReceiveTag, IBV_WC_WR_FLUSH_ERR);
  const std::vector<Completion> got = PollAll();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].result, CompletionResult::kRetry);
  EXPECT_EQ(got[1].immediate, 8u);
}

TEST_F(VerbsLinkTest, FlushedReceivesAreNotTheReasonIfOneFollows) {
  ASSERT_TRUE(link_->PostReceives(1).ok());
  ASSERT_TRUE(Post(Write(1)).ok());
  device_.Complete(kReceiveTag, IBV_WC_WR_FLUSH_ERR);
  device_.Complete(0, IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(Text(PollAll()), "1:1 ");
}

TEST_F(VerbsLinkTest, AnIdleLinkReportsItsEndOnce) {
  ASSERT_TRUE(link_->ArmEvent().ok());
  device_.events.disconnected = true;
  ASSERT_TRUE(link_->ArmEvent().ok());
  const std::vector<Completion> got = PollAll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].id, 0u);
  EXPECT_EQ(got[0].kind, CompletionKind::kImmediate);
  EXPECT_EQ(got[0].result, CompletionResult::kRetry);
  EXPECT_TRUE(PollAll().empty());
  EXPECT_TRUE(absl::IsUnavailable(link_->ArmEvent()));
}

TEST_F(VerbsLinkTest, APollingThreadLooksForThePeersEndNowAndThen) {
  PollAll();
  const int looks = device_.looks;
  for (int i = 0; i < 100; ++i) PollAll();
  EXPECT_EQ(device_.looks, looks) << "a system call in each poll";
  clock_.AdvanceNs(11 * kNsPerMs);
  device_.events.disconnected = true;
  EXPECT_EQ(PollAll().size(), 1u);
}

TEST_F(VerbsLinkTest, ARequestThatNeverFinishesFailsAtItsDeadline) {
  ASSERT_TRUE(Post(Write(1)).ok());
  ASSERT_TRUE(Post(Write(2)).ok());
  EXPECT_TRUE(PollAll().empty());
  clock_.AdvanceNs(kNsPerSecond - 1);
  EXPECT_TRUE(PollAll().empty());
  clock_.AdvanceNs(1);
  EXPECT_EQ(Text(PollAll()), "1:2 2:3 ");
  EXPECT_TRUE(device_.in_error);
}

TEST_F(VerbsLinkTest, ProgressMovesTheDeadline) {
  for (uint64_t id = 1; id <= 5; ++id) ASSERT_TRUE(Post(Write(id, 8, true)).ok());
  for (uint64_t sequence = 0; sequence < 5; ++sequence) {
    PollAll();
    clock_.AdvanceNs(kNsPerSecond - 1);
    device_.Complete(sequence);
    EXPECT_EQ(PollAll().size(), 1u);
  }
}

TEST_F(VerbsLinkTest, ImmediatesThatKeepArrivingDoNotMoveTheDeadline) {
  ASSERT_TRUE(link_->PostReceives(64).ok());
  ASSERT_TRUE(Post(Write(7, 8, true)).ok());
  // In every look something has come.
  const auto look = [this] {
    device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM, htonl(42));
    return Text(PollAll());
  };
  EXPECT_EQ(look(), "0:0 ");
  for (int i = 0; i < 9; ++i) {
    clock_.AdvanceNs(kNsPerSecond / 10);
    ASSERT_EQ(look(), "0:0 ") << i;
  }
  clock_.AdvanceNs(kNsPerSecond / 10);
  EXPECT_EQ(look(), "0:0 7:2 ") << "what has come is delivered, and the request has failed";
  EXPECT_TRUE(device_.in_error);
  EXPECT_THAT(std::string(Post(Write(8)).message()), HasSubstr("outstanding for too long"));
}

TEST_F(VerbsLinkTest, ARequestThatFinishesAmongImmediatesMovesTheDeadline) {
  ASSERT_TRUE(link_->PostReceives(64).ok());
  for (uint64_t sequence = 0; sequence < 5; ++sequence) {
    ASSERT_TRUE(Post(Write(sequence + 1, 8, true)).ok());
  }
  for (uint64_t sequence = 0; sequence < 5; ++sequence) {
    device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM);
    EXPECT_EQ(PollAll().size(), 1u);
    clock_.AdvanceNs(kNsPerSecond - 1);
    device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM);
    device_.Complete(sequence);
    EXPECT_EQ(PollAll().size(), 2u);
  }
}

TEST_F(VerbsLinkTest, ARequestThatHasFinishedBehindAFullAnswerIsNotLate) {
  ASSERT_TRUE(link_->PostReceives(1).ok());
  ASSERT_TRUE(Post(Write(1, 8, true)).ok());
  EXPECT_TRUE(PollAll().empty());
  clock_.AdvanceNs(2 * kNsPerSecond);
  device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM);
  device_.Complete(0);
  std::vector<Completion> one(1);
  ASSERT_EQ(link_->Poll(one), 1u);
  EXPECT_EQ(one[0].kind, CompletionKind::kImmediate);
  EXPECT_EQ(Text(PollAll()), "1:0 ");
}

TEST_F(VerbsLinkTest, TheDeadlineOfAnEmptyQueueBeginsWithThePost) {
  PollAll();
  clock_.AdvanceNs(100 * kNsPerSecond);
  ASSERT_TRUE(Post(Write(1)).ok());
  EXPECT_TRUE(PollAll().empty());
}

TEST_F(VerbsLinkTest, TheQueueIsArmedOnceUntilSomethingCame) {
  EXPECT_FALSE(link_->armed());
  ASSERT_TRUE(link_->ArmEvent().ok());
  EXPECT_TRUE(link_->armed());
  ASSERT_TRUE(link_->ArmEvent().ok());
  EXPECT_EQ(device_.arms, 1);
  device_.events.completion = true;
  ASSERT_TRUE(link_->ArmEvent().ok());
  EXPECT_EQ(device_.arms, 2);
  ASSERT_TRUE(Post(Write(1, 8, true)).ok());
  device_.Complete(0);
  PollAll();
  EXPECT_FALSE(link_->armed());
  ASSERT_TRUE(link_->ArmEvent().ok());
  EXPECT_EQ(device_.arms, 3);
}

TEST_F(VerbsLinkTest, APartOfAListTheDeviceRefusesFailsTheLink) {
  device_.sends_accepted = 2;
  std::vector<WriteRequest> list = {Write(1), Write(2), Write(3)};
  EXPECT_TRUE(absl::IsUnavailable(link_->PostWrites(list)));
  EXPECT_EQ(Text(PollAll()), "1:4 2:3 ") << "the third was not posted";
}

TEST_F(VerbsLinkTest, NonsenseOfTheDeviceFailsTheLink) {
  device_.Complete(17);
  EXPECT_EQ(Text(PollAll()), "0:4 ");
  Make();
  device_.poll_error = EIO;
  EXPECT_EQ(Text(PollAll()), "0:4 ");
}

TEST_F(VerbsLinkTest, AMessageThatIsNoImmediateFailsTheLink) {
  ASSERT_TRUE(link_->PostReceives(1).ok());
  device_.Complete(kReceiveTag, IBV_WC_SUCCESS, IBV_WC_RECV);
  EXPECT_EQ(Text(PollAll()), "0:4 ");
}

TEST_F(VerbsLinkTest, ReadsAreReportedAsReads) {
  ASSERT_TRUE(link_->PostRead(5, kRegion, 0, Write(1).remote, 0, 4096).ok());
  EXPECT_EQ(device_.sent[0].opcode, IBV_WR_RDMA_READ);
  device_.Complete(0, IBV_WC_SUCCESS, IBV_WC_RDMA_READ);
  const std::vector<Completion> got = PollAll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].kind, CompletionKind::kRead);
}

TEST_F(VerbsLinkTest, RevokeTakesThePermissionFirstAndThenDestroys) {
  ASSERT_TRUE(Post(Write(1)).ok());
  EXPECT_TRUE(link_->Revoke().ok());
  EXPECT_EQ(device_.cut, "pd");
  EXPECT_EQ(owner_.cuts, 1);
  EXPECT_TRUE(PollAll().empty());
  EXPECT_TRUE(absl::IsUnavailable(Post(Write(2))));
  EXPECT_TRUE(absl::IsUnavailable(link_->ArmEvent()));
}

TEST_F(VerbsLinkTest, RevokeGoesOnWithoutThePermissionsAnswer) {
  device_.permission = absl::InvalidArgumentError("in error state");
  EXPECT_TRUE(link_->Revoke().ok());
  EXPECT_EQ(device_.cut, "pd");
}

TEST_F(VerbsLinkTest, RevokeIsNoProofIfAQueuePairIsLeft) {
  device_.destruction = absl::InternalError("still there");
  EXPECT_FALSE(link_->Revoke().ok());
  EXPECT_EQ(owner_.cuts, 1) << "the pending ones are cut all the same";
  EXPECT_TRUE(PollAll().empty());
  device_.destruction = absl::OkStatus();
  owner_.pending = absl::InternalError("an accepted one is left");
  EXPECT_FALSE(link_->Revoke().ok());
  owner_.pending = absl::OkStatus();
  EXPECT_TRUE(link_->Revoke().ok());
}

TEST_F(VerbsLinkTest, ALinkThatCanNotBeDestroyedIsRemembered) {
  device_.destruction = absl::InternalError("still there");
  link_.reset();
  EXPECT_FALSE(owner_.undestroyed.ok());
}

}  // namespace
}  // namespace haven
