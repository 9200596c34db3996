// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/heartbeat_writer.h"

#include <vector>

#include "engine/primary/fake_link.h"
#include "engine/replica/control_block.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

class HeartbeatWriterTest : public ::testing::Test {
 protected:
  HeartbeatWriterTest() : scratch_(64 + kHeartbeatBytes) {
    link_.AddRegion(3, scratch_);
    link_.remote.resize(kControlBlockBytes);
    options_ = {.session = 9,
                .link_number = 4,
                .journal = {.key = 1, .base = 0, .bytes = kControlBlockBytes},
                .scratch_region = 3,
                .scratch = std::span(scratch_).subspan(64),
                .scratch_offset = 64,
                .last_counter = 0};
  }

  Heartbeat Received() const {
    Heartbeat heartbeat;
    const absl::Status decoded = DecodeHeartbeat(
        HeartbeatSender::kPrimary,
        std::span(link_.remote).subspan(kPrimaryHeartbeatOffset, kHeartbeatBytes), &heartbeat);
    EXPECT_TRUE(decoded.ok()) << decoded;
    return heartbeat;
  }

  FakeLink link_;
  std::vector<std::byte> scratch_;
  HeartbeatOptions options_;
};

TEST_F(HeartbeatWriterTest, EachBeatCarriesTheNextCounterAndTheState) {
  HeartbeatWriter writer(options_, link_);
  EXPECT_EQ(writer.Beat(PrimaryState::kSyncing), BeatResult::kPosted);
  EXPECT_EQ(Received(), (Heartbeat{.session = 9,
                                   .link = 4,
                                   .state = static_cast<uint32_t>(PrimaryState::kSyncing),
                                   .counter = 1}));
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kPosted);
  EXPECT_EQ(Received().counter, 2u);
  EXPECT_EQ(Received().state, static_cast<uint32_t>(PrimaryState::kProtected));
  EXPECT_EQ(writer.counter(), 2u);
  EXPECT_EQ(writer.delivered(), 1u);
}

TEST_F(HeartbeatWriterTest, CounterGoesOnOnANewLink) {
  options_.last_counter = 41;
  HeartbeatWriter writer(options_, link_);
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kPosted);
  EXPECT_EQ(Received().counter, 42u);
}

TEST_F(HeartbeatWriterTest, OneIsUnderWayAtMost) {
  HeartbeatWriter writer(options_, link_);
  link_.complete = false;
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kPosted);
  const std::vector<std::byte> scratch = scratch_;
  EXPECT_EQ(writer.Beat(PrimaryState::kPaused), BeatResult::kBusy);
  EXPECT_EQ(scratch_, scratch);
  EXPECT_EQ(writer.counter(), 1u);
  link_.complete = true;
  EXPECT_EQ(writer.Beat(PrimaryState::kPaused), BeatResult::kPosted);
  EXPECT_EQ(Received().counter, 2u);
}

TEST_F(HeartbeatWriterTest, FullQueueCountsNothing) {
  HeartbeatWriter writer(options_, link_);
  link_.queue_depth = 0;
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kBusy);
  EXPECT_EQ(writer.counter(), 0u);
  link_.queue_depth = 1;
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kPosted);
  EXPECT_EQ(Received().counter, 1u);
}

TEST_F(HeartbeatWriterTest, BadCompletionIsFinal) {
  HeartbeatWriter writer(options_, link_);
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kPosted);
  link_.injected = {
      {.id = 1, .result = CompletionResult::kRetry},
      {.id = 0, .kind = CompletionKind::kImmediate, .result = CompletionResult::kFlushed}};
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kFailed);
  EXPECT_EQ(writer.failure(), CompletionResult::kRetry);
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kFailed);
  EXPECT_EQ(link_.posted.size(), 1u);
}

TEST_F(HeartbeatWriterTest, FailedLinkIsFinal) {
  HeartbeatWriter writer(options_, link_);
  link_.failed = true;
  EXPECT_EQ(writer.Beat(PrimaryState::kProtected), BeatResult::kFailed);
  EXPECT_EQ(writer.failure(), CompletionResult::kOther);
  EXPECT_EQ(writer.counter(), 0u);
}

}  // namespace
}  // namespace haven
