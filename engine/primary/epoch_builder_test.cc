// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_builder.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/manual_clock.h"
#include "engine/base/random.h"
#include "engine/primary/test_domain.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/frame.h"
#include "engine/replica/layout.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint32_t kSlotBytes = kMinSlotBytes;
constexpr uint32_t kStateBytes = 3000;
constexpr SessionId kSession = 77;
constexpr LinkNumber kLink = 3;

// Guests, a builder, and a replica that checks and applies epochs as the backup does.
class BuilderTest : public ::testing::Test {
 protected:
  struct Shape {
    std::vector<uint64_t> domain_pages = {300, 100};
    uint32_t slots = 64;
    unsigned workers = 0;
  };

  void Build(const Shape& shape) {
    builder_.reset();
    domains_.clear();
    replicas_.clear();
    pointers_.clear();
    memories_.clear();
    targets_.clear();
    states_.assign(shape.domain_pages.size(), std::vector<std::byte>(kStateBytes));
    state_spans_.assign(states_.begin(), states_.end());
    for (size_t i = 0; i < shape.domain_pages.size(); ++i) {
      // A few frames in each domain are not RAM.
      const std::vector<uint64_t> not_ram = {uint64_t{0x0c00} << i};
      domains_.push_back(std::make_unique<TestDomain>("guest" + std::to_string(i),
                                                      shape.domain_pages[i], kStateBytes, not_ram));
      replicas_.push_back(std::make_unique<TestMemory>(shape.domain_pages[i], not_ram));
      pointers_.push_back(domains_.back().get());
      memories_.push_back(&domains_.back()->memory());
      targets_.push_back({.memory = &replicas_.back()->memory(), .max_state_bytes = kStateBytes});
    }
    staging_.resize(size_t{shape.slots} * kSlotBytes + 100);
    pool_ = std::make_unique<CopyPool>(shape.workers);
    sets_ = std::make_unique<DirtySets>(memories_);
    builder_ =
        std::make_unique<EpochBuilder>(pointers_, *sets_, staging_, kSlotBytes, *pool_, clock_);
    validator_ = std::make_unique<EpochValidator>(targets_);
  }

  ChunkIdentity NextIdentity() {
    return {.session = kSession, .link = kLink, .epoch = ++epoch_, .kind = kind_, .index = 0};
  }

  CaptureResult Capture(EpochKind kind) {
    kind_ = kind;
    CaptureResult captured = builder_->Capture(kind, UINT64_MAX);
    EXPECT_EQ(captured.outcome, CaptureResult::Outcome::kCaptured) << captured.status;
    return captured;
  }

  // Checks the encoded epoch like the backup.
  void Validate(Epoch epoch, const EncodeResult& encoded) {
    validator_->Begin(kSession, kLink, epoch, kind_, state_spans_);
    for (uint32_t i = 0; i < builder_->chunks().size(); ++i) {
      const absl::Status added = validator_->AddChunk(SlotBytes(i), i);
      ASSERT_TRUE(added.ok()) << added;
    }
    const CommitRecord record{
        .session = kSession,
        .link = kLink,
        .kind = kind_,
        .epoch = epoch,
        .base_epoch = epoch - 1,
        .domain_count = static_cast<uint16_t>(domains_.size()),
        .placement = {.ring_slots_used = static_cast<uint32_t>(builder_->chunks().size())},
        .totals = encoded.totals};
    const absl::Status finished = validator_->Finish(record);
    ASSERT_TRUE(finished.ok()) << finished;
  }

  void Apply() {
    for (uint32_t i = 0; i < builder_->chunks().size(); ++i) {
      ChunkHeader header;
      uint32_t crc = 0;
      ASSERT_TRUE(DecodeChunkHeader(SlotBytes(i), &header, &crc).ok());
      FrameCursor cursor(ChunkPayload(SlotBytes(i), header));
      Frame frame;
      while (cursor.Next(&frame)) {
        if (frame.type == FrameType::kState) continue;
        for (uint32_t page = 0; page < frame.count; ++page) {
          std::byte* to = replicas_[frame.domain]->memory().Page(frame.first_gfn() + page);
          if (frame.type == FrameType::kZeroRun) {
            std::memset(to, 0, kPageBytes);
          } else {
            std::memcpy(to, frame.body.data() + page * kPageBytes, kPageBytes);
          }
        }
      }
    }
  }

  // Captures, encodes, checks, applies and acknowledges.
  EncodeResult Replicate(EpochKind kind) {
    Capture(kind);
    const ChunkIdentity identity = NextIdentity();
    const EncodeResult encoded = builder_->Encode(identity);
    Validate(identity.epoch, encoded);
    Apply();
    sets_->DropInflight();
    return encoded;
  }

  ::testing::AssertionResult ReplicaEqualsGuests() {
    for (size_t d = 0; d < domains_.size(); ++d) {
      const GuestMemory& guest = domains_[d]->memory();
      for (Gfn gfn = 0; gfn < guest.page_count(); ++gfn) {
        if (guest.IsRam(gfn) &&
            std::memcmp(guest.Page(gfn), replicas_[d]->memory().Page(gfn), kPageBytes) != 0) {
          return ::testing::AssertionFailure() << "domain " << d << " gfn " << gfn << " differs";
        }
      }
    }
    return ::testing::AssertionSuccess();
  }

  std::span<const std::byte> SlotBytes(uint32_t slot) const {
    return std::span<const std::byte>(staging_).subspan(size_t{slot} * kSlotBytes, kSlotBytes);
  }

  void WriteRandomPages(Random& random, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      TestDomain& domain = *domains_[static_cast<size_t>(random.Below(domains_.size()))];
      domain.WritePage(random.Below(domain.memory().page_count()),
                       random.Chance(1, 3) ? 0 : random.Next());
    }
  }

  std::vector<std::unique_ptr<TestDomain>> domains_;
  std::vector<std::unique_ptr<TestMemory>> replicas_;
  std::vector<Domain*> pointers_;
  std::vector<const GuestMemory*> memories_;
  std::vector<EpochTarget> targets_;
  std::vector<std::vector<std::byte>> states_;
  std::vector<std::span<std::byte>> state_spans_;
  std::vector<std::byte> staging_;
  ManualClock clock_;
  std::unique_ptr<CopyPool> pool_;
  std::unique_ptr<DirtySets> sets_;
  std::unique_ptr<EpochBuilder> builder_;
  std::unique_ptr<EpochValidator> validator_;
  Epoch epoch_ = 0;
  EpochKind kind_ = EpochKind::kSync;
};

TEST_F(BuilderTest, CheckpointWithoutDirtyPagesCarriesTheStates) {
  Build({});
  domains_[0]->state.assign(2000, std::byte{7});
  domains_[1]->state.assign(1, std::byte{8});
  ASSERT_TRUE(builder_->Fetch().status.ok());
  const CaptureResult captured = Capture(EpochKind::kCheckpoint);
  EXPECT_EQ(captured.pages, 0u);
  EXPECT_EQ(captured.slots, 1u);
  EXPECT_EQ(captured.state_bytes, 2001u);
  const EncodeResult encoded = builder_->Encode(NextIdentity());
  EXPECT_EQ(encoded.wire_bytes, 64u + 16 + 2000 + 16 + 16);
  Validate(epoch_, encoded);
  EXPECT_EQ(validator_->state_bytes(0), 2000u);
  EXPECT_EQ(validator_->state_bytes(1), 1u);
  EXPECT_EQ(states_[0][1999], std::byte{7});
  EXPECT_EQ(states_[1][0], std::byte{8});
}

TEST_F(BuilderTest, SyncWithoutDirtyPagesHasNoChunk) {
  Build({});
  EXPECT_EQ(Capture(EpochKind::kSync).slots, 0u);
  const EncodeResult encoded = builder_->Encode(NextIdentity());
  EXPECT_EQ(encoded.wire_bytes, 0u);
  EXPECT_EQ(encoded.totals.chunk_count, 0u);
  EXPECT_TRUE(builder_->chunks().empty());
}

// No two places of these pages are alike: bytes that come to a wrong one are seen. Pages by
// themselves and in runs are copied in different ways.
TEST_F(BuilderTest, EachByteComesToItsPlace) {
  Build({});
  Random random(11);
  for (const Gfn gfn : {Gfn{1}, Gfn{3}, Gfn{5}, Gfn{7}, Gfn{8}, Gfn{9}}) {
    domains_[0]->WritePage(gfn, 1);
    random.Fill({domains_[0]->memory().Page(gfn), kPageBytes});
  }
  ASSERT_TRUE(builder_->Fetch().status.ok());
  EXPECT_EQ(Replicate(EpochKind::kSync).totals.page_count, 6u);
  EXPECT_TRUE(ReplicaEqualsGuests());
}

TEST_F(BuilderTest, ZeroPagesTravelWithoutTheirBytes) {
  Build({});
  domains_[0]->WritePage(1, 5);
  domains_[0]->WritePage(2, 0);
  domains_[0]->WritePage(3, 0);
  ASSERT_TRUE(builder_->Fetch().status.ok());
  const EncodeResult encoded = Replicate(EpochKind::kSync);
  EXPECT_EQ(encoded.zero_pages, 2u);
  EXPECT_EQ(encoded.totals.page_count, 3u);
  EXPECT_EQ(encoded.wire_bytes, 64u + 16 + 4096 + 16);
  EXPECT_TRUE(ReplicaEqualsGuests());
}

TEST_F(BuilderTest, FullSyncInSeveralEpochsThenCheckpoint) {
  Build({.slots = 4});
  Random random(3);
  WriteRandomPages(random, 250);
  ASSERT_TRUE(builder_->Fetch().status.ok());
  sets_->MarkAll();
  int epochs = 0;
  while (sets_->CountPending() > 0) {
    ASSERT_LT(epochs++, 20);
    Replicate(EpochKind::kSync);
  }
  EXPECT_GE(epochs, 6);
  EXPECT_TRUE(ReplicaEqualsGuests());
  WriteRandomPages(random, 30);
  ASSERT_TRUE(builder_->Fetch().status.ok());
  Replicate(EpochKind::kCheckpoint);
  EXPECT_TRUE(ReplicaEqualsGuests());
}

TEST_F(BuilderTest, CheckpointTooLargeKeepsEverythingAndFitsWithMoreRoom) {
  Build({});
  for (Gfn gfn = 20; gfn < 90; ++gfn) domains_[0]->WritePage(gfn, gfn);
  ASSERT_TRUE(builder_->Fetch().status.ok());
  const CaptureResult refused = builder_->Capture(EpochKind::kCheckpoint, 3);
  EXPECT_EQ(refused.outcome, CaptureResult::Outcome::kTooLarge);
  EXPECT_EQ(refused.slots, 5u);
  EXPECT_EQ(sets_->CountPending(), 70u);
  EXPECT_EQ(sets_->CountInflight(), 0u);
  const CaptureResult captured = builder_->Capture(EpochKind::kCheckpoint, refused.slots);
  ASSERT_EQ(captured.outcome, CaptureResult::Outcome::kCaptured);
  EXPECT_EQ(captured.slots, 5u);
}

TEST_F(BuilderTest, LimitBeyondStagingIsBoundedByStaging) {
  Build({.slots = 2});
  sets_->MarkAll();
  const CaptureResult refused = builder_->Capture(EpochKind::kCheckpoint, 1000);
  EXPECT_EQ(refused.outcome, CaptureResult::Outcome::kTooLarge);
  EXPECT_GT(refused.slots, 2u);
}

// A guest that goes on is told from one whose state fails.
TEST_F(BuilderTest, FailedCaptureOfStatePutsThePagesBack) {
  Build({});
  const std::pair<absl::Status, CaptureResult::Outcome> cases[] = {
      {absl::UnavailableError("guest1 is gone"), CaptureResult::Outcome::kFailed},
      {absl::FailedPreconditionError("guest1 goes on"), CaptureResult::Outcome::kGuestRuns}};
  for (const auto& [cause, outcome] : cases) {
    domains_[1]->WritePage(50, 1);
    ASSERT_TRUE(builder_->Fetch().status.ok());
    domains_[1]->capture_status = cause;
    const CaptureResult failed = builder_->Capture(EpochKind::kCheckpoint, 64);
    EXPECT_EQ(failed.outcome, outcome);
    EXPECT_EQ(failed.status, cause);
    EXPECT_EQ(sets_->CountInflight(), 0u);
    Replicate(EpochKind::kCheckpoint);
    EXPECT_TRUE(ReplicaEqualsGuests());
  }
}

TEST_F(BuilderTest, EmptyStateIsRefusedWithTheGuestsName) {
  Build({});
  domains_[1]->state.clear();
  const CaptureResult failed = builder_->Capture(EpochKind::kCheckpoint, 64);
  EXPECT_EQ(failed.outcome, CaptureResult::Outcome::kFailed);
  EXPECT_NE(failed.status.message().find("guest1"), absl::string_view::npos) << failed.status;
}

// A log that is kept has the same pages again, and what was written since.
TEST_F(BuilderTest, WhatIsInAKeptLogIsSentEachTime) {
  Build({});
  domains_[0]->WritePage(5, 5);
  domains_[1]->WritePage(6, 6);
  ASSERT_TRUE(builder_->Fetch(EpochBuilder::Log::kKeep).status.ok());
  EXPECT_EQ(sets_->CountPending(), 2u);
  Replicate(EpochKind::kCheckpoint);
  EXPECT_TRUE(ReplicaEqualsGuests());
  domains_[0]->WritePage(5, 55);
  domains_[0]->WritePage(7, 7);
  ASSERT_TRUE(builder_->Fetch(EpochBuilder::Log::kKeep).status.ok());
  EXPECT_EQ(sets_->CountPending(), 3u);
  Replicate(EpochKind::kCheckpoint);
  EXPECT_TRUE(ReplicaEqualsGuests());
  ASSERT_TRUE(builder_->Fetch().status.ok());
  EXPECT_EQ(sets_->CountPending(), 3u);
  Replicate(EpochKind::kCheckpoint);
  ASSERT_TRUE(builder_->Fetch().status.ok());
  EXPECT_EQ(sets_->CountPending(), 0u) << "the fetch before has cleared it";
}

TEST_F(BuilderTest, LostLogMarksAllOfThatDomain) {
  Build({});
  domains_[0]->WritePage(5, 5);
  domains_[1]->WritePage(6, 6);
  domains_[1]->fetch_status = absl::AbortedError("log-dirty was taken away");
  const FetchResult fetched = builder_->Fetch();
  EXPECT_TRUE(fetched.status.ok());
  EXPECT_TRUE(fetched.lost_log);
  EXPECT_TRUE(absl::IsAborted(fetched.lost_cause));
  EXPECT_EQ(sets_->CountPending(), 1u + 98);
  Replicate(EpochKind::kCheckpoint);
  EXPECT_TRUE(ReplicaEqualsGuests());
}

TEST_F(BuilderTest, VanishedGuestEndsTheFetchAndKeepsWhatWasFetched) {
  Build({});
  domains_[0]->WritePage(5, 5);
  domains_[1]->WritePage(6, 6);
  domains_[1]->fetch_status = absl::UnavailableError("gone");
  const FetchResult fetched = builder_->Fetch();
  EXPECT_TRUE(absl::IsUnavailable(fetched.status));
  EXPECT_FALSE(fetched.lost_log);
  EXPECT_EQ(sets_->CountPending(), 1u);
  EXPECT_TRUE(builder_->Fetch().status.ok());
  EXPECT_EQ(sets_->CountPending(), 2u);
}

TEST_F(BuilderTest, TimesComeFromTheClockGiven) {
  Build({});
  sets_->MarkAll();
  const CaptureResult captured = builder_->Capture(EpochKind::kCheckpoint, 64);
  EXPECT_EQ(captured.plan_ns + captured.copy_ns + captured.state_ns, 0);
  EXPECT_EQ(builder_->Encode(NextIdentity()).encode_ns, 0);
}

TEST_F(BuilderTest, EncodingTwiceIsOurError) {
  Build({});
  Capture(EpochKind::kCheckpoint);
  builder_->Encode(NextIdentity());
  EXPECT_DEATH(builder_->Encode(NextIdentity()), "kCaptured");
}

class BuilderModelTest : public BuilderTest, public ::testing::WithParamInterface<unsigned> {};

// Guests write all the time; epochs fail at random, before they were applied or after (a lost
// acknowledgement), logs are lost. Whatever happened, the next good checkpoint makes the replica
// equal.
TEST_P(BuilderModelTest, NothingIsLostWhateverFails) {
  for (uint64_t seed = 0; seed < 15; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Build({.domain_pages = {200 + random.Below(500), 1 + random.Below(90), 64},
           .slots = 70,
           .workers = GetParam()});
    sets_->MarkAll();
    for (int step = 0; step < 40; ++step) {
      WriteRandomPages(random, random.Below(60));
      TestDomain& victim = *domains_[static_cast<size_t>(random.Below(3))];
      if (random.Chance(1, 15)) victim.fetch_status = absl::AbortedError("lost");
      if (random.Chance(1, 15)) victim.fetch_status = absl::UnavailableError("not now");
      if (random.Chance(1, 15)) victim.capture_status = absl::UnavailableError("not now");
      if (!builder_->Fetch().status.ok()) continue;
      kind_ = random.Chance(1, 2) ? EpochKind::kSync : EpochKind::kCheckpoint;
      const uint64_t limit = random.Chance(1, 3) ? random.Below(20) : UINT64_MAX;
      const CaptureResult captured = builder_->Capture(kind_, limit);
      if (captured.outcome != CaptureResult::Outcome::kCaptured) continue;
      // The guests run on while the epoch is encoded and sent.
      const bool quiet = random.Chance(1, 2);
      if (!quiet) WriteRandomPages(random, random.Below(20));
      if (random.Chance(1, 6)) {
        sets_->RestoreInflight();
        continue;
      }
      const EncodeResult encoded = builder_->Encode(NextIdentity());
      Validate(epoch_, encoded);
      if (random.Chance(1, 6)) {
        sets_->RestoreInflight();
        continue;
      }
      Apply();
      if (random.Chance(1, 6)) {
        sets_->RestoreInflight();
      } else {
        sets_->DropInflight();
      }
      if (quiet && kind_ == EpochKind::kCheckpoint) {
        ASSERT_TRUE(ReplicaEqualsGuests());
      }
    }
    for (auto& domain : domains_) domain->fetch_status = domain->capture_status = absl::OkStatus();
    ASSERT_TRUE(builder_->Fetch().status.ok());
    Replicate(EpochKind::kCheckpoint);
    ASSERT_TRUE(ReplicaEqualsGuests());
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, BuilderModelTest, ::testing::Values(0u, 2u));

}  // namespace
}  // namespace haven
