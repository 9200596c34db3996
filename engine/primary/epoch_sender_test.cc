// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_sender.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/base/random.h"
#include "engine/primary/fake_link.h"
#include "engine/replica/immediate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;

constexpr JournalGeometry kGeometry{
    .slot_bytes = kMinSlotBytes, .ring_slots = 20, .pool_slots = 12, .extent_slots = 4};
constexpr uint32_t kStaging = 7;
constexpr uint32_t kScratch = 8;
constexpr uint64_t kStagingOffset = 128;
constexpr uint64_t kScratchOffset = 192;
constexpr uint64_t kPlenty = 1000;

class SenderTest : public ::testing::Test {
 protected:
  SenderTest() {
    staging_.resize(kStagingOffset + 32 * uint64_t{kMinSlotBytes});
    scratch_.resize(kScratchOffset + EpochSender::kScratchBytes);
    Random(5).Fill(staging_);
    link_.AddRegion(kStaging, staging_);
    link_.AddRegion(kScratch, scratch_);
    link_.remote.resize(kGeometry.total_bytes());
    options_ = {.session = 11,
                .link_number = 2,
                .domain_count = 1,
                .geometry = kGeometry,
                .journal = {.key = 1, .base = 0, .bytes = kGeometry.total_bytes()},
                .staging_region = kStaging,
                .staging_offset = kStagingOffset,
                .scratch_region = kScratch,
                .scratch = std::span(scratch_).subspan(kScratchOffset),
                .scratch_offset = kScratchOffset,
                .max_write_bytes = 1u << 30,
                .group_chunks = 2};
  }

  // An epoch of `count` chunks of different sizes, the smallest and the largest among them.
  SendSpec MakeSpec(Epoch epoch, uint32_t count) {
    chunks_.clear();
    SendSpec spec;
    spec.epoch = epoch;
    // Only a sync epoch can be without chunks.
    spec.kind = count == 0 ? EpochKind::kSync : EpochKind::kCheckpoint;
    spec.base_epoch = epoch - 1;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t payload = i == 0   ? 16
                               : i == 1 ? kMinSlotBytes - static_cast<uint32_t>(kChunkHeaderBytes)
                                        : 16 * (i * 37 + 1);
      chunks_.push_back(
          {.payload_bytes = payload, .frame_count = 1, .page_count = 0, .chunk_crc = i * 1000003});
      spec.totals.Add(chunks_.back());
    }
    spec.chunks = chunks_;
    spec.placement.first_position = 17;
    spec.placement.ring_slots_used = std::min(count, kGeometry.ring_slots);
    return spec;
  }

  // Pumps and completes until the sender can not go on by itself.
  SendState Drive(EpochSender& sender) {
    for (int i = 0; i < 100'000; ++i) {
      const SendState state = sender.Pump();
      std::array<Completion, 4> completions;
      const size_t count = link_.Poll(completions);
      for (size_t c = 0; c < count; ++c) sender.OnCompletion(completions[c]);
      if (count == 0 && state != SendState::kSending) return sender.state();
    }
    ADD_FAILURE() << "no end";
    return sender.state();
  }

  std::vector<uint32_t> Immediates() const {
    std::vector<uint32_t> immediates;
    for (const WriteRequest& request : link_.posted) {
      if (request.has_immediate) immediates.push_back(request.immediate);
    }
    return immediates;
  }

  // All chunks lie where the placement says, and the record, which came last, tells of them.
  void ExpectDelivered(const SendSpec& spec) {
    for (uint32_t i = 0; i < spec.chunks.size(); ++i) {
      const uint64_t at = kGeometry.SlotOffset(spec.placement.ChunkSlot(kGeometry, i));
      EXPECT_EQ(std::memcmp(link_.remote.data() + at,
                            staging_.data() + kStagingOffset + uint64_t{i} * kMinSlotBytes,
                            kChunkHeaderBytes + spec.chunks[i].payload_bytes),
                0)
          << i;
    }
    CommitRecord record;
    const absl::Status decoded = DecodeCommitRecord(
        std::span(link_.remote).subspan(CommitSlotOffset(spec.epoch), kCommitSlotBytes), kGeometry,
        &record);
    ASSERT_TRUE(decoded.ok()) << decoded;
    EXPECT_EQ(record, (CommitRecord{.session = 11,
                                    .link = 2,
                                    .kind = spec.kind,
                                    .epoch = spec.epoch,
                                    .base_epoch = spec.base_epoch,
                                    .domain_count = 1,
                                    .placement = spec.placement,
                                    .totals = spec.totals}));
    ASSERT_FALSE(link_.posted.empty());
    EXPECT_EQ(link_.posted.back().remote_offset, CommitSlotOffset(spec.epoch));
    EXPECT_EQ(link_.posted.back().immediate, CommitImmediate(spec.epoch));
    EXPECT_TRUE(link_.posted.back().signaled);
  }

  FakeLink link_;
  std::vector<std::byte> staging_;
  std::vector<std::byte> scratch_;
  SenderOptions options_;
  std::vector<ChunkTotals> chunks_;
};

TEST_F(SenderTest, CommitImmediateKeepsTheLowBitsOfTheEpoch) {
  EXPECT_EQ(CommitImmediate(5), 0x80000005u);
  EXPECT_EQ(CommitImmediate(0x1'ffff'ffffu), 0xffffffffu);
  EXPECT_EQ(CommitImmediate(0x1'8000'0000u), 0x80000000u);
}

TEST_F(SenderTest, SendsChunksInGroupsAndTheRecordLast) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  EXPECT_EQ(sender.state(), SendState::kIdle);
  const SendSpec spec = MakeSpec(5, 7);
  sender.Start(spec);
  EXPECT_EQ(sender.state(), SendState::kSending);
  EXPECT_TRUE(link_.posted.empty());
  EXPECT_EQ(sender.Pump(), SendState::kPosted);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  ExpectDelivered(spec);
  EXPECT_EQ(link_.posted.size(), 8u);
  EXPECT_THAT(Immediates(), ElementsAre(2, 4, 6, CommitImmediate(5)));
  EXPECT_EQ(sender.credits_used(), 4u);
  EXPECT_EQ(sender.chunks_posted(), 7u);
}

TEST_F(SenderTest, LastGroupIsAnnouncedByTheCommitAlone) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  sender.Start(MakeSpec(6, 4));
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  EXPECT_THAT(Immediates(), ElementsAre(2, CommitImmediate(6)));
}

TEST_F(SenderTest, EpochWithoutChunksIsItsRecord) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(1);
  const SendSpec spec = MakeSpec(6, 0);
  sender.Start(spec);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  ExpectDelivered(spec);
  EXPECT_EQ(link_.posted.size(), 1u);
}

TEST_F(SenderTest, RingWrapsAndExtentsFollow) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  SendSpec spec = MakeSpec(5, 28);
  spec.placement.extent_count = 2;
  spec.placement.extents[0] = 2;
  spec.placement.extents[1] = 0;
  sender.Start(spec);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  ExpectDelivered(spec);
}

TEST_F(SenderTest, WithoutCreditsTheDataGoesAndTheCommitWaits) {
  EpochSender sender(options_, link_);
  const SendSpec spec = MakeSpec(5, 7);
  sender.Start(spec);
  EXPECT_EQ(Drive(sender), SendState::kWaitingCredits);
  EXPECT_EQ(link_.posted.size(), 7u);
  EXPECT_THAT(Immediates(), ElementsAre());
  EXPECT_EQ(sender.Pump(), SendState::kWaitingCredits);
  sender.SetCreditsGranted(1);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  EXPECT_THAT(Immediates(), ElementsAre(CommitImmediate(5)));
  ExpectDelivered(spec);
}

TEST_F(SenderTest, OneCreditIsKeptForTheCommit) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(3);
  sender.Start(MakeSpec(5, 11));
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  EXPECT_THAT(Immediates(), ElementsAre(2, 4, CommitImmediate(5)));
  EXPECT_EQ(sender.credits_used(), 3u);
}

TEST_F(SenderTest, AnImmediateThatWasLeftOutComesWithALaterChunk) {
  options_.max_write_bytes = kMinSlotBytes;
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(1);
  link_.queue_depth = 5;
  sender.Start(MakeSpec(5, 11));
  EXPECT_EQ(sender.Pump(), SendState::kWaitingQueue);
  EXPECT_THAT(Immediates(), ElementsAre());
  sender.SetCreditsGranted(2);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  EXPECT_THAT(Immediates(), ElementsAre(6, CommitImmediate(5)));
}

TEST_F(SenderTest, CreditsCountOverAllEpochsOfTheLink) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(2);
  sender.Start(MakeSpec(5, 1));
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  sender.Start(MakeSpec(6, 1));
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  sender.Start(MakeSpec(8, 1));
  EXPECT_EQ(Drive(sender), SendState::kWaitingCredits);
  sender.SetCreditsGranted(1);  // An old acknowledgement, read late.
  EXPECT_EQ(Drive(sender), SendState::kWaitingCredits);
  sender.SetCreditsGranted(3);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
}

TEST_F(SenderTest, LargeChunksAreSplit) {
  options_.max_write_bytes = 1000;
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  const SendSpec spec = MakeSpec(5, 4);
  sender.Start(spec);
  EXPECT_EQ(Drive(sender), SendState::kCompleted);
  ExpectDelivered(spec);
  size_t expected = 1;
  for (const ChunkTotals& chunk : chunks_) {
    expected += (kChunkHeaderBytes + chunk.payload_bytes + 999) / 1000;
  }
  EXPECT_EQ(link_.posted.size(), expected);
  for (const WriteRequest& request : link_.posted) EXPECT_LE(request.bytes, 1000u);
  EXPECT_THAT(Immediates(), ElementsAre(2, CommitImmediate(5)));
}

TEST_F(SenderTest, OnePumpIsBounded) {
  options_.max_write_bytes = 1000;
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  sender.Start(MakeSpec(5, 3));
  EXPECT_EQ(sender.Pump(), SendState::kSending);
  EXPECT_EQ(link_.posted.size(), EpochSender::kMaxPostsPerPump);
}

TEST_F(SenderTest, FullQueueIsWaitedFor) {
  for (const size_t depth : {1u, 2u, 3u, 7u, 16u, 17u}) {
    SCOPED_TRACE(depth);
    FakeLink link;
    link.AddRegion(kStaging, staging_);
    link.AddRegion(kScratch, scratch_);
    link.remote.resize(kGeometry.total_bytes());
    link.queue_depth = depth;
    std::swap(link, link_);
    EpochSender sender(options_, link_);
    sender.SetCreditsGranted(kPlenty);
    const SendSpec spec = MakeSpec(5, 19);
    sender.Start(spec);
    EXPECT_EQ(sender.Pump(), SendState::kWaitingQueue);
    EXPECT_EQ(link_.posted.size(), depth);
    EXPECT_EQ(sender.Pump(), SendState::kWaitingQueue);
    EXPECT_EQ(Drive(sender), SendState::kCompleted);
    EXPECT_EQ(link_.posted.size(), 20u);
    ExpectDelivered(spec);
  }
}

TEST_F(SenderTest, LinkThatFailsInTheMiddleEndsIt) {
  options_.max_write_bytes = 4096;
  for (const size_t at : {1u, 2u, 16u, 17u, 20u}) {
    SCOPED_TRACE(at);
    link_.failed = false;
    link_.posts_until_failure = at;
    EpochSender sender(options_, link_);
    sender.SetCreditsGranted(kPlenty);
    sender.Start(MakeSpec(5, 7));
    EXPECT_EQ(sender.Pump(), SendState::kFailed);
    EXPECT_EQ(sender.failure(), CompletionResult::kOther);
    const size_t calls = link_.post_calls;
    EXPECT_EQ(sender.Pump(), SendState::kFailed);
    EXPECT_EQ(link_.post_calls, calls);
  }
}

TEST_F(SenderTest, FirstBadCompletionIsTheCause) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  link_.complete = false;
  sender.Start(MakeSpec(5, 7));
  EXPECT_EQ(sender.Pump(), SendState::kPosted);
  sender.OnCompletion({.id = 1, .result = CompletionResult::kPermission});
  EXPECT_EQ(sender.state(), SendState::kFailed);
  sender.OnCompletion({.id = 2, .result = CompletionResult::kFlushed});
  EXPECT_EQ(sender.failure(), CompletionResult::kPermission);
  // A late completion of the commit does not revive it.
  sender.OnCompletion({.id = link_.posted.back().id});
  EXPECT_EQ(sender.state(), SendState::kFailed);
}

TEST_F(SenderTest, OnlyItsOwnCommitCompletesAnEpoch) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  link_.complete = false;
  sender.Start(MakeSpec(5, 1));
  EXPECT_EQ(sender.Pump(), SendState::kPosted);
  const uint64_t old_commit = link_.posted.back().id;
  // The acknowledgement has overtaken the completion.
  sender.Start(MakeSpec(6, 1));
  EXPECT_EQ(sender.Pump(), SendState::kPosted);
  sender.OnCompletion({.id = old_commit});
  EXPECT_EQ(sender.state(), SendState::kPosted);
  sender.OnCompletion({.id = 12345});
  EXPECT_EQ(sender.state(), SendState::kPosted);
  sender.OnCompletion({.id = 0, .kind = CompletionKind::kImmediate});
  EXPECT_EQ(sender.state(), SendState::kPosted);
  const uint64_t commit = link_.posted.back().id;
  EXPECT_NE(commit & EpochSender::kIdBit, 0u);
  sender.OnCompletion({.id = commit});
  EXPECT_EQ(sender.state(), SendState::kCompleted);
}

TEST_F(SenderTest, RecordsOfFollowingEpochsUseDifferentSlotsAndScratch) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  sender.Start(MakeSpec(5, 1));
  sender.Pump();
  const WriteRequest first = link_.posted.back();
  sender.Start(MakeSpec(6, 1));
  sender.Pump();
  const WriteRequest second = link_.posted.back();
  EXPECT_NE(first.remote_offset, second.remote_offset);
  EXPECT_NE(first.local_offset, second.local_offset);
}

using SenderDeathTest = SenderTest;

TEST_F(SenderDeathTest, AnEpochNumberIsNeverUsedTwice) {
  EpochSender sender(options_, link_);
  sender.SetCreditsGranted(kPlenty);
  sender.Start(MakeSpec(5, 1));
  Drive(sender);
  EXPECT_DEATH(sender.Start(MakeSpec(5, 1)), "epoch");
}

TEST_F(SenderDeathTest, OneEpochAtATime) {
  EpochSender sender(options_, link_);
  sender.Start(MakeSpec(5, 1));
  EXPECT_DEATH(sender.Start(MakeSpec(6, 1)), "epoch=6");
}

TEST_F(SenderDeathTest, PlacementMustFitTheChunks) {
  EpochSender sender(options_, link_);
  SendSpec spec = MakeSpec(5, 3);
  spec.placement.ring_slots_used = 2;
  EXPECT_DEATH(sender.Start(spec), "extent_count");
}

// Queue depth, credits, sizes and completions at random.
TEST_F(SenderTest, DeliversWhateverTheLinkIsLike) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    FakeLink link;
    link.AddRegion(kStaging, staging_);
    link.AddRegion(kScratch, scratch_);
    link.remote.resize(kGeometry.total_bytes());
    link.queue_depth = static_cast<size_t>(1 + random.Below(40));
    std::swap(link, link_);
    options_.max_write_bytes = static_cast<uint32_t>(kCommitRecordBytes + random.Below(80'000));
    options_.group_chunks = static_cast<uint32_t>(1 + random.Below(9));
    EpochSender sender(options_, link_);
    uint64_t credits = 0;
    Epoch epoch = 0;
    for (int i = 0; i < 4; ++i) {
      epoch += 1 + random.Below(3);
      const SendSpec spec = MakeSpec(epoch, static_cast<uint32_t>(random.Below(21)));
      sender.Start(spec);
      while (sender.state() != SendState::kCompleted) {
        sender.Pump();
        ASSERT_LE(Immediates().size(), credits);
        std::array<Completion, 3> completions;
        const size_t count = link_.Poll(std::span(completions).first(random.Below(4)));
        for (size_t c = 0; c < count; ++c) sender.OnCompletion(completions[c]);
        if (random.Chance(1, 4)) sender.SetCreditsGranted(++credits);
        ASSERT_NE(sender.state(), SendState::kFailed);
      }
      ExpectDelivered(spec);
    }
    // Data immediates tell a growing number of chunks and no more than were complete.
    uint32_t last = 0;
    for (const uint32_t immediate : Immediates()) {
      const bool commit = (immediate & kCommitImmediateBit) != 0;
      if (!commit) {
        ASSERT_GT(immediate, last);
      }
      last = commit ? 0 : immediate;
    }
  }
}

}  // namespace
}  // namespace haven
