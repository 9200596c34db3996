// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/peer_block_writer.h"

#include <array>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr SessionId kSession = 0x1234;

// Carries a WRITE's bytes over when it completes, not when it is posted: a source that changes in
// between shows.
class FakeLink final : public Link {
 public:
  explicit FakeLink(std::span<const std::byte> scratch) : scratch_(scratch) {}

  absl::Status PostWrites(std::span<const WriteRequest> requests) override {
    if (!write_result.ok()) return write_result;
    posted.insert(posted.end(), requests.begin(), requests.end());
    return absl::OkStatus();
  }
  absl::Status PostRead(uint64_t, uint32_t, uint64_t, RemoteRegion, uint64_t, uint32_t) override {
    return absl::UnavailableError("not used");
  }
  absl::Status PostReceives(uint32_t count) override {
    if (!receive_result.ok()) return receive_result;
    receives += count;
    credits_at_post = credits_published();
    return absl::OkStatus();
  }
  size_t Poll(std::span<Completion>) override { return 0; }
  int event_fd() const override { return -1; }
  absl::Status ArmEvent() override { return absl::OkStatus(); }
  absl::Status Revoke() override { return absl::OkStatus(); }

  // The oldest posted WRITE arrives.
  Completion Arrive(CompletionResult result = CompletionResult::kOk) {
    const WriteRequest request = posted.front();
    posted.erase(posted.begin());
    if (result == CompletionResult::kOk) {
      std::memcpy(peer.data() + request.remote_offset, scratch_.data() + request.local_offset,
                  request.bytes);
    }
    return {.id = request.id, .kind = CompletionKind::kWrite, .result = result, .immediate = 0};
  }

  Ack PeerAck() const {
    Ack ack;
    EXPECT_TRUE(DecodeAck(std::span(peer).subspan(kAckOffset, kAckBytes), &ack).ok());
    return ack;
  }
  Heartbeat PeerHeartbeat() const {
    Heartbeat heartbeat;
    EXPECT_TRUE(DecodeHeartbeat(HeartbeatSender::kBackup,
                                std::span(peer).subspan(kBackupHeartbeatOffset, kHeartbeatBytes),
                                &heartbeat)
                    .ok());
    return heartbeat;
  }

  std::vector<WriteRequest> posted;
  std::array<std::byte, kPeerBlockBytes> peer{};
  absl::Status write_result;
  absl::Status receive_result;
  uint32_t receives = 0;
  uint64_t credits_at_post = 0;

 private:
  uint64_t credits_published() const {
    Ack ack;
    return DecodeAck(std::span(peer).subspan(kAckOffset, kAckBytes), &ack).ok()
               ? ack.credits_granted
               : 0;
  }

  std::span<const std::byte> scratch_;
};

class PeerBlockWriterTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kAckScratch = 64;
  static constexpr uint64_t kHeartbeatScratch = kAckScratch + PeerBlockWriter::kScratchBytes;

  LocalRegion Scratch() { return {.id = 5, .bytes = scratch_}; }
  static RemoteRegion Peer() { return {.key = 9, .base = 0, .bytes = kPeerBlockBytes}; }

  void Complete(CompletionResult result = CompletionResult::kOk) {
    absl::Status status;
    ASSERT_TRUE(writer_.OnCompletion(link_.Arrive(result), &status));
    ASSERT_EQ(status.ok(), result == CompletionResult::kOk) << status;
  }

  std::array<std::byte, kHeartbeatScratch + PeerHeartbeatWriter::kScratchBytes> scratch_{};
  FakeLink link_{scratch_};
  PeerBlockWriter writer_{kSession, Scratch(), kAckScratch, Peer()};
  PeerHeartbeatWriter beats_{kSession, Scratch(), kHeartbeatScratch, Peer()};
};

TEST_F(PeerBlockWriterTest, WritesTheAcknowledgementWhereItBelongs) {
  writer_.BeginLink(1, &link_);
  writer_.SetState(BackupState::kStandby);
  writer_.SetCommitted(7);
  writer_.SetApplied(6, 40);
  ASSERT_TRUE(writer_.Publish(/*wake=*/true).ok());
  ASSERT_EQ(link_.posted.size(), 1u);
  const WriteRequest& request = link_.posted[0];
  EXPECT_EQ(request.local_region, 5u);
  EXPECT_GE(request.local_offset, kAckScratch);
  EXPECT_EQ(request.remote.key, 9u);
  EXPECT_EQ(request.remote_offset, kAckOffset);
  EXPECT_EQ(request.bytes, kAckBytes);
  EXPECT_TRUE(request.signaled);
  EXPECT_TRUE(request.has_immediate);
  EXPECT_EQ(request.immediate, 7u);
  Complete();
  EXPECT_EQ(link_.PeerAck(), (Ack{.session = kSession,
                                  .link = 1,
                                  .state = BackupState::kStandby,
                                  .committed_epoch = 7,
                                  .applied_epoch = 6,
                                  .ring_tail = 40,
                                  .credits_granted = 0}));
  EXPECT_FALSE(writer_.pending());
}

TEST_F(PeerBlockWriterTest, AQuietPublishTakesNoReceive) {
  writer_.BeginLink(1, &link_);
  ASSERT_TRUE(writer_.Publish(/*wake=*/false).ok());
  ASSERT_EQ(link_.posted.size(), 1u);
  EXPECT_FALSE(link_.posted[0].has_immediate);
}

TEST_F(PeerBlockWriterTest, ABufferIsNotReusedBeforeItsWriteIsComplete) {
  writer_.BeginLink(1, &link_);
  for (Epoch epoch = 1; epoch <= SectionLane::kBuffers; ++epoch) {
    writer_.SetCommitted(epoch);
    ASSERT_TRUE(writer_.Publish(true).ok());
  }
  ASSERT_EQ(link_.posted.size(), SectionLane::kBuffers);
  for (size_t a = 0; a < link_.posted.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      EXPECT_NE(link_.posted[a].local_offset, link_.posted[b].local_offset);
      EXPECT_NE(link_.posted[a].id, link_.posted[b].id);
    }
  }
  for (Epoch epoch = 1; epoch <= SectionLane::kBuffers; ++epoch) {
    Complete();
    EXPECT_EQ(link_.PeerAck().committed_epoch, epoch);
  }
}

TEST_F(PeerBlockWriterTest, WithoutABufferTheNewestValuesWaitForOne) {
  writer_.BeginLink(1, &link_);
  for (uint32_t i = 0; i < SectionLane::kBuffers; ++i) ASSERT_TRUE(writer_.Publish(false).ok());
  writer_.SetCommitted(1);
  ASSERT_TRUE(writer_.Publish(true).ok());
  writer_.SetCommitted(2);
  ASSERT_TRUE(writer_.Publish(false).ok());
  EXPECT_TRUE(writer_.pending());
  EXPECT_EQ(link_.posted.size(), SectionLane::kBuffers);

  Complete();
  EXPECT_FALSE(writer_.pending());
  ASSERT_EQ(link_.posted.size(), SectionLane::kBuffers);
  EXPECT_TRUE(link_.posted.back().has_immediate);
  EXPECT_EQ(link_.posted.back().immediate, 2u);
  while (!link_.posted.empty()) Complete();
  EXPECT_EQ(link_.PeerAck().committed_epoch, 2u);
}

TEST_F(PeerBlockWriterTest, WithoutRoomInTheQueueTheValuesWaitForAFlush) {
  writer_.BeginLink(1, &link_);
  writer_.SetCommitted(3);
  link_.write_result = absl::ResourceExhaustedError("queue full");
  ASSERT_TRUE(writer_.Publish(true).ok());
  EXPECT_TRUE(writer_.pending());
  link_.write_result = absl::OkStatus();
  ASSERT_TRUE(writer_.Flush().ok());
  EXPECT_FALSE(writer_.pending());
  ASSERT_EQ(link_.posted.size(), 1u);
  EXPECT_TRUE(link_.posted[0].has_immediate);
  ASSERT_TRUE(writer_.Flush().ok());
  EXPECT_EQ(link_.posted.size(), 1u);
}

TEST_F(PeerBlockWriterTest, CreditsAreThereBeforeTheyArePublished) {
  writer_.BeginLink(1, &link_);
  ASSERT_TRUE(writer_.GrantCredits(16).ok());
  ASSERT_TRUE(writer_.Publish(false).ok());
  Complete();
  EXPECT_EQ(link_.PeerAck().credits_granted, 16u);
  ASSERT_TRUE(writer_.GrantCredits(3).ok());
  EXPECT_EQ(link_.receives, 19u);
  EXPECT_EQ(link_.credits_at_post, 16u);
  ASSERT_TRUE(writer_.Publish(false).ok());
  Complete();
  EXPECT_EQ(link_.PeerAck().credits_granted, 19u);
}

TEST_F(PeerBlockWriterTest, FailedReceivesAreNoCredits) {
  writer_.BeginLink(1, &link_);
  link_.receive_result = absl::ResourceExhaustedError("queue full");
  EXPECT_TRUE(absl::IsResourceExhausted(writer_.GrantCredits(4)));
  EXPECT_EQ(writer_.ack().credits_granted, 0u);
}

TEST_F(PeerBlockWriterTest, ALinkThatFailsIsReported) {
  writer_.BeginLink(1, &link_);
  link_.write_result = absl::UnavailableError("gone");
  EXPECT_TRUE(absl::IsUnavailable(writer_.Publish(true)));

  link_.write_result = absl::OkStatus();
  for (const CompletionResult result : {CompletionResult::kPermission, CompletionResult::kRetry,
                                        CompletionResult::kFlushed, CompletionResult::kOther}) {
    FakeLink link(scratch_);
    writer_.BeginLink(writer_.ack().link + 1, &link);
    ASSERT_TRUE(writer_.Publish(true).ok());
    absl::Status status;
    EXPECT_TRUE(writer_.OnCompletion(link.Arrive(result), &status));
    EXPECT_TRUE(absl::IsUnavailable(status)) << static_cast<int>(result);
  }
}

TEST_F(PeerBlockWriterTest, ANewLinkStartsWithAllBuffersAndNoCredits) {
  writer_.BeginLink(1, &link_);
  writer_.SetCommitted(5);
  ASSERT_TRUE(writer_.GrantCredits(8).ok());
  for (uint32_t i = 0; i <= SectionLane::kBuffers; ++i) ASSERT_TRUE(writer_.Publish(true).ok());
  EXPECT_TRUE(writer_.pending());
  writer_.EndLink();
  EXPECT_FALSE(writer_.pending());
  EXPECT_TRUE(absl::IsUnavailable(writer_.Publish(true)));
  EXPECT_TRUE(absl::IsUnavailable(writer_.GrantCredits(1)));

  FakeLink second(scratch_);
  writer_.BeginLink(2, &second);
  EXPECT_TRUE(second.posted.empty());
  for (uint32_t i = 0; i < SectionLane::kBuffers; ++i) ASSERT_TRUE(writer_.Publish(false).ok());
  EXPECT_EQ(second.posted.size(), SectionLane::kBuffers);
  absl::Status status;
  ASSERT_TRUE(writer_.OnCompletion(second.Arrive(), &status));
  EXPECT_EQ(second.PeerAck().link, 2u);
  EXPECT_EQ(second.PeerAck().committed_epoch, 5u);
  EXPECT_EQ(second.PeerAck().credits_granted, 0u);
}

TEST_F(PeerBlockWriterTest, OtherCompletionsAreNotItsBusiness) {
  writer_.BeginLink(1, &link_);
  absl::Status status = absl::InternalError("untouched");
  EXPECT_FALSE(writer_.OnCompletion({.id = PeerHeartbeatWriter::kFirstId}, &status));
  EXPECT_FALSE(writer_.OnCompletion(
      {.id = PeerBlockWriter::kFirstId, .kind = CompletionKind::kImmediate}, &status));
  EXPECT_FALSE(
      writer_.OnCompletion({.id = PeerBlockWriter::kFirstId + SectionLane::kBuffers}, &status));
  EXPECT_TRUE(absl::IsInternal(status));
}

TEST_F(PeerBlockWriterTest, HeartbeatsGrowAndSkipWhenTheLinkIsSlow) {
  beats_.BeginLink(1, &link_);
  for (uint32_t i = 0; i < SectionLane::kBuffers + 2; ++i) {
    ASSERT_TRUE(beats_.Beat(BackupState::kSyncing).ok());
  }
  EXPECT_EQ(link_.posted.size(), SectionLane::kBuffers);
  EXPECT_EQ(beats_.counter(), SectionLane::kBuffers + 2);
  absl::Status status;
  for (uint64_t counter = 1; counter <= SectionLane::kBuffers; ++counter) {
    EXPECT_EQ(link_.posted[0].remote_offset, kBackupHeartbeatOffset);
    EXPECT_FALSE(link_.posted[0].has_immediate);
    ASSERT_TRUE(beats_.OnCompletion(link_.Arrive(), &status));
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(link_.PeerHeartbeat().counter, counter);
  }
  ASSERT_TRUE(beats_.Beat(BackupState::kStandby).ok());
  ASSERT_TRUE(beats_.OnCompletion(link_.Arrive(), &status));
  EXPECT_EQ(link_.PeerHeartbeat(), (Heartbeat{.session = kSession,
                                              .link = 1,
                                              .state = static_cast<uint32_t>(BackupState::kStandby),
                                              .counter = SectionLane::kBuffers + 3}));
}

TEST_F(PeerBlockWriterTest, HeartbeatsGoOnCountingOnTheNextLink) {
  EXPECT_TRUE(absl::IsUnavailable(beats_.Beat(BackupState::kSyncing)));
  beats_.BeginLink(1, &link_);
  link_.write_result = absl::ResourceExhaustedError("queue full");
  EXPECT_TRUE(beats_.Beat(BackupState::kSyncing).ok());
  link_.write_result = absl::UnavailableError("gone");
  EXPECT_TRUE(absl::IsUnavailable(beats_.Beat(BackupState::kSyncing)));
  beats_.EndLink();
  FakeLink second(scratch_);
  beats_.BeginLink(2, &second);
  ASSERT_TRUE(beats_.Beat(BackupState::kSyncing).ok());
  absl::Status status;
  ASSERT_TRUE(beats_.OnCompletion(second.Arrive(), &status));
  EXPECT_EQ(second.PeerHeartbeat().counter, 4u);
  EXPECT_EQ(second.PeerHeartbeat().link, 2u);

  ASSERT_TRUE(beats_.Beat(BackupState::kSyncing).ok());
  ASSERT_TRUE(beats_.OnCompletion(second.Arrive(CompletionResult::kRetry), &status));
  EXPECT_TRUE(absl::IsUnavailable(status));
}

TEST_F(PeerBlockWriterTest, BothWritersShareALinkWithoutMeeting) {
  writer_.BeginLink(1, &link_);
  beats_.BeginLink(1, &link_);
  writer_.SetCommitted(1);
  ASSERT_TRUE(beats_.Beat(BackupState::kStandby).ok());
  ASSERT_TRUE(writer_.Publish(true).ok());
  absl::Status status;
  const Completion beat = link_.Arrive();
  EXPECT_FALSE(writer_.OnCompletion(beat, &status));
  EXPECT_TRUE(beats_.OnCompletion(beat, &status));
  const Completion ack = link_.Arrive();
  EXPECT_FALSE(beats_.OnCompletion(ack, &status));
  EXPECT_TRUE(writer_.OnCompletion(ack, &status));
  EXPECT_EQ(link_.PeerAck().committed_epoch, 1u);
  EXPECT_EQ(link_.PeerHeartbeat().counter, 1u);
}

using PeerBlockWriterDeathTest = PeerBlockWriterTest;

TEST_F(PeerBlockWriterDeathTest, ValuesNeverGoBack) {
  writer_.BeginLink(3, &link_);
  writer_.SetCommitted(5);
  writer_.SetApplied(4, 10);
  EXPECT_DEATH(writer_.SetCommitted(4), "committed_epoch");
  EXPECT_DEATH(writer_.SetApplied(3, 10), "applied_epoch");
  EXPECT_DEATH(writer_.SetApplied(6, 10), "committed_epoch");
  EXPECT_DEATH(writer_.SetApplied(5, 9), "ring_tail");
  EXPECT_DEATH(writer_.BeginLink(3, &link_), "number > ack_.link");
}

TEST_F(PeerBlockWriterDeathTest, ScratchMustBeLargeEnough) {
  EXPECT_DEATH(PeerBlockWriter(kSession, Scratch(), scratch_.size() - 1, Peer()), "kScratchBytes");
  RemoteRegion small = Peer();
  small.bytes = 100;
  EXPECT_DEATH(PeerBlockWriter(kSession, Scratch(), 0, small), "kPeerBlockBytes");
}

}  // namespace
}  // namespace haven
