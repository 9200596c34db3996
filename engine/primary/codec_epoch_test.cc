// SPDX-License-Identifier: Apache-2.0
//
// Epochs through builder and codec to a replica that checks and applies them as the backup does.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/allocations_testing.h"
#include "engine/base/check.h"
#include "engine/base/manual_clock.h"
#include "engine/base/random.h"
#include "engine/codec/coded_epoch_check.h"
#include "engine/primary/epoch_builder.h"
#include "engine/primary/test_domain.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/features.h"
#include "engine/replica/layout.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint32_t kStateBytes = 3000;
constexpr SessionId kSession = 77;
constexpr LinkNumber kLink = 3;

struct Shape {
  std::vector<uint64_t> domain_pages = {300, 100};
  uint32_t slot_bytes = kMinSlotBytes;
  uint32_t slots = 64;
  unsigned workers = 0;
  uint64_t cache_pages = 100;
  bool hashes = true;
  uint64_t features = kCodecFeatures;
  CodecMode mode = CodecMode::kDense;
};

// A guest's replica with what is needed to check and apply frames.
class CodedPair {
 public:
  explicit CodedPair(const Shape& shape)
      : slot_bytes_(shape.slot_bytes),
        staging_(size_t{shape.slots} * shape.slot_bytes),
        image_(staging_.size()),
        pool_(shape.workers) {
    for (size_t i = 0; i < shape.domain_pages.size(); ++i) {
      const std::vector<uint64_t> not_ram = {uint64_t{0x0c00} << i};
      domains.push_back(std::make_unique<TestDomain>("guest" + std::to_string(i),
                                                     shape.domain_pages[i], kStateBytes, not_ram));
      replicas_.push_back(std::make_unique<TestMemory>(shape.domain_pages[i], not_ram));
      pointers_.push_back(domains.back().get());
      guests_.push_back(&domains.back()->memory());
      memories_.push_back(&replicas_.back()->memory());
      targets_.push_back({.memory = memories_.back(), .max_state_bytes = kStateBytes});
    }
    check_ = std::make_unique<CodedEpochCheck>(memories_, shape.features);
    validator_ = std::make_unique<EpochValidator>(targets_, check_.get());
    CodecStageOptions options;
    options.enabled = true;
    options.mode = shape.mode;
    options.cache_bytes = shape.cache_pages * kPageBytes;
    options.hashes = shape.hashes;
    options.draw_key = [this]() -> absl::StatusOr<HashKey> {
      if (!random_source.ok()) return random_source;
      std::array<std::byte, HashKey::kBytes> secret;
      Random(++keys_drawn).Fill(secret);
      return HashKey(secret);
    };
    codec = std::make_unique<CodecStage>(options, shape.domain_pages, shape.workers + 1);
    HAVEN_CHECK_OK(BeginSession(shape.features));
    sets = std::make_unique<DirtySets>(guests_);
    builder = std::make_unique<EpochBuilder>(pointers_, *sets, staging_, slot_bytes_, pool_, clock_,
                                             codec.get());
  }

  absl::Status BeginSession(uint64_t features = kCodecFeatures) {
    return codec->BeginSession(features, image_, slot_bytes_);
  }

  ChunkIdentity NextIdentity() {
    return {.session = kSession, .link = kLink, .epoch = ++epoch_, .kind = kind_, .index = 0};
  }

  bool Capture(EpochKind kind, uint64_t limit = UINT64_MAX) {
    kind_ = kind;
    return builder->Fetch().status.ok() &&
           builder->Capture(kind, limit).outcome == CaptureResult::Outcome::kCaptured;
  }

  // As the backup would before it acknowledges.
  absl::Status Validate(const EncodeResult& encoded) {
    validator_->Begin(kSession, kLink, epoch_, kind_);
    for (uint32_t i = 0; i < builder->chunks().size(); ++i) {
      const absl::Status added = validator_->AddChunk(Chunk(i), i);
      if (!added.ok()) return added;
    }
    return validator_->Finish(
        {.session = kSession,
         .link = kLink,
         .kind = kind_,
         .epoch = epoch_,
         .base_epoch = epoch_ - 1,
         .domain_count = static_cast<uint16_t>(domains.size()),
         .placement = {.ring_slots_used = static_cast<uint32_t>(builder->chunks().size())},
         .totals = encoded.totals});
  }

  void Apply() {
    for (uint32_t i = 0; i < builder->chunks().size(); ++i) {
      ChunkHeader header;
      uint32_t crc = 0;
      ASSERT_TRUE(DecodeChunkHeader(Chunk(i), &header, &crc).ok());
      FrameCursor cursor(ChunkPayload(Chunk(i), header));
      Frame frame;
      while (cursor.Next(&frame)) ApplyFrame(frame);
    }
  }

  void Acknowledge() {
    sets->DropInflight();
    codec->Acknowledge(1);
  }
  void Fail() {
    sets->RestoreInflight();
    codec->Fail();
  }

  EncodeResult Replicate(EpochKind kind) {
    EXPECT_TRUE(Capture(kind));
    const EncodeResult encoded = builder->Encode(NextIdentity());
    const absl::Status checked = Validate(encoded);
    EXPECT_TRUE(checked.ok()) << checked;
    Apply();
    Acknowledge();
    return encoded;
  }

  ::testing::AssertionResult ReplicaEqualsGuests() {
    for (size_t d = 0; d < domains.size(); ++d) {
      for (Gfn gfn = 0; gfn < guests_[d]->page_count(); ++gfn) {
        if (guests_[d]->IsRam(gfn) &&
            std::memcmp(guests_[d]->Page(gfn), memories_[d]->Page(gfn), kPageBytes) != 0) {
          return ::testing::AssertionFailure() << "domain " << d << " gfn " << gfn << " differs";
        }
      }
    }
    return ::testing::AssertionSuccess();
  }

  // What guests do: mostly small changes, now and then a whole page, a copy, zeros.
  void WriteRandomPages(Random& random, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      TestDomain& domain = *domains[static_cast<size_t>(random.Below(domains.size()))];
      const Gfn gfn = random.Below(domain.memory().page_count());
      std::byte* page = domain.memory().Page(gfn);
      std::vector<std::byte> next(page, page + kPageBytes);
      const uint64_t what = random.Below(8);
      if (what == 0) std::ranges::fill(next, std::byte{0});
      if (what == 1) random.Fill(next);
      if (what == 2) {
        const TestDomain& other = *domains[static_cast<size_t>(random.Below(domains.size()))];
        const Gfn from = random.Below(other.memory().page_count());
        std::copy_n(other.memory().Page(from), kPageBytes, next.begin());
      }
      // Nothing at all: the old value is written again.
      for (uint64_t k = what == 3 ? 0 : random.Below(4); k > 0; --k) {
        next[random.Below(kPageBytes)] ^= static_cast<std::byte>(1 + random.Below(255));
      }
      domain.WritePage(gfn, 0);
      std::ranges::copy(next, page);
    }
  }

  std::vector<std::unique_ptr<TestDomain>> domains;
  std::unique_ptr<CodecStage> codec;
  std::unique_ptr<DirtySets> sets;
  std::unique_ptr<EpochBuilder> builder;
  absl::Status random_source;
  int keys_drawn = 0;

 private:
  std::span<const std::byte> Chunk(uint32_t index) const {
    const std::span<const uint32_t> image_slots = builder->image_slots();
    const std::vector<std::byte>& area = image_slots.empty() ? staging_ : image_;
    const size_t slot = image_slots.empty() ? index : image_slots[index];
    return std::span(area).subspan(slot * slot_bytes_, slot_bytes_);
  }

  void ApplyFrame(const Frame& frame) {
    if (frame.type == FrameType::kState) return;
    const GuestMemory& memory = *memories_[frame.domain];
    if (frame.type == FrameType::kCodedPages) {
      decoder_.Open({.first_gfn = static_cast<uint32_t>(frame.first_gfn()),
                     .count = frame.count,
                     .body = frame.body});
      while (decoder_.Next(&page_)) {
        ApplyCodedPage(page_, decoder_.block_shift(), memories_, memory.Page(page_.gfn));
      }
      ASSERT_TRUE(decoder_.status().ok());
      return;
    }
    for (uint32_t page = 0; page < frame.count; ++page) {
      std::byte* to = memory.Page(frame.first_gfn() + page);
      if (frame.type == FrameType::kZeroRun) {
        std::memset(to, 0, kPageBytes);
      } else {
        std::memcpy(to, frame.body.data() + page * kPageBytes, kPageBytes);
      }
    }
  }

  const uint32_t slot_bytes_;
  std::vector<std::byte> staging_;
  std::vector<std::byte> image_;
  CopyPool pool_;
  ManualClock clock_;
  std::vector<std::unique_ptr<TestMemory>> replicas_;
  std::vector<Domain*> pointers_;
  std::vector<const GuestMemory*> guests_;
  std::vector<const GuestMemory*> memories_;
  std::vector<EpochTarget> targets_;
  std::unique_ptr<CodedEpochCheck> check_;
  std::unique_ptr<EpochValidator> validator_;
  CodedFrameDecoder decoder_;
  CodedPage page_;
  Epoch epoch_ = 0;
  EpochKind kind_ = EpochKind::kSync;
};

void FillPage(CodedPair& pair, size_t domain, Gfn gfn, uint64_t seed) {
  pair.domains[domain]->WritePage(gfn, 0);
  Random(seed).Fill({pair.domains[domain]->memory().Page(gfn), kPageBytes});
}

TEST(CodecEpoch, OneChangedByteTravelsAsAFewBytes) {
  CodedPair pair({});
  FillPage(pair, 0, 5, 1);
  pair.Replicate(EpochKind::kSync);
  pair.domains[0]->memory().Page(5)[100] ^= std::byte{1};
  pair.sets->Pending(0)[0] |= uint64_t{1} << 5;
  const EncodeResult encoded = pair.Replicate(EpochKind::kSync);
  EXPECT_LE(encoded.wire_bytes, 64u + 16 + 32);
  EXPECT_EQ(encoded.totals.page_count, 1u);
  EXPECT_TRUE(pair.ReplicaEqualsGuests());
}

TEST(CodecEpoch, SyncOfUnchangedPagesHasNoChunk) {
  CodedPair pair({});
  FillPage(pair, 0, 5, 1);
  pair.Replicate(EpochKind::kSync);
  pair.sets->Pending(0)[0] |= uint64_t{1} << 5;
  const EncodeResult encoded = pair.Replicate(EpochKind::kSync);
  EXPECT_EQ(encoded.totals.chunk_count, 0u);
  EXPECT_EQ(encoded.totals.page_count, 0u);
}

TEST(CodecEpoch, SmallFramesOfManySlotsShareAChunk) {
  CodedPair pair({.domain_pages = {900}, .cache_pages = 900});
  for (Gfn gfn = 0; gfn < 900; ++gfn) FillPage(pair, 0, gfn, gfn + 1);
  pair.Replicate(EpochKind::kSync);
  for (Gfn gfn = 0; gfn < 900; ++gfn) {
    pair.domains[0]->memory().Page(gfn)[gfn] ^= std::byte{1};
  }
  std::ranges::fill(pair.sets->Pending(0), ~uint64_t{0});
  const EncodeResult encoded = pair.Replicate(EpochKind::kCheckpoint);
  EXPECT_GE(pair.builder->max_slots(), 60u);
  EXPECT_LE(encoded.totals.chunk_count, 8u);
  EXPECT_TRUE(pair.ReplicaEqualsGuests());
}

TEST(CodecEpoch, IncompressiblePagesGoPlainWithoutGrowth) {
  CodedPair pair({.domain_pages = {600}, .slot_bytes = uint32_t{1} << 20, .slots = 4});
  for (Gfn gfn = 0; gfn < 600; ++gfn) FillPage(pair, 0, gfn, gfn + 1);
  const EncodeResult encoded = pair.Replicate(EpochKind::kCheckpoint);
  EXPECT_EQ(encoded.totals.chunk_count, 3u);
  EXPECT_LE(encoded.wire_bytes, 598 * kPageBytes + kStateBytes + 500);
  EXPECT_TRUE(pair.ReplicaEqualsGuests());
}

TEST(CodecEpoch, PlainEpochsForgetWhatWasKnown) {
  CodedPair pair({});
  FillPage(pair, 0, 5, 1);
  FillPage(pair, 0, 6, 2);
  pair.Replicate(EpochKind::kSync);
  pair.codec->SetMode(CodecMode::kOff);
  FillPage(pair, 0, 5, 3);
  EXPECT_GT(pair.Replicate(EpochKind::kSync).wire_bytes, kPageBytes);
  pair.codec->SetMode(CodecMode::kBoth);
  // Back to the version that the codec saw last.
  FillPage(pair, 0, 5, 1);
  EXPECT_GT(pair.Replicate(EpochKind::kSync).wire_bytes, kPageBytes);
  EXPECT_TRUE(pair.ReplicaEqualsGuests());
  EXPECT_EQ(pair.codec->Report().coded_epochs, 2u);
  EXPECT_EQ(pair.codec->Report().plain_epochs, 1u);
}

TEST(CodecEpoch, WithoutAgreedFeaturesEverythingGoesPlain) {
  CodedPair pair({.features = 0});
  FillPage(pair, 0, 5, 1);
  pair.Replicate(EpochKind::kSync);
  FillPage(pair, 0, 5, 1);
  EXPECT_GT(pair.Replicate(EpochKind::kSync).wire_bytes, kPageBytes);
  EXPECT_FALSE(pair.codec->Report().agreed);
}

TEST(CodecEpoch, ASessionBeginsWithASecretOfItsOwnAndWithoutBaselines) {
  CodedPair pair({});
  FillPage(pair, 0, 5, 1);
  pair.Replicate(EpochKind::kSync);
  ASSERT_TRUE(pair.BeginSession().ok());
  EXPECT_EQ(pair.keys_drawn, 2);
  pair.sets->Pending(0)[0] |= uint64_t{1} << 5;
  EXPECT_GT(pair.Replicate(EpochKind::kSync).wire_bytes, kPageBytes);
}

TEST(CodecEpoch, WithoutASecretThereIsNoSession) {
  CodedPair pair({});
  pair.random_source = absl::UnavailableError("no random bytes");
  EXPECT_EQ(pair.BeginSession(), pair.random_source);
}

TEST(CodecEpoch, OnlyAgreedFeaturesAreUsed) {
  for (uint64_t features = 0; features <= kCodecFeatures; ++features) {
    SCOPED_TRACE(features);
    Random random(features + 1);
    CodedPair pair({.features = features, .mode = CodecMode::kBoth});
    for (int epoch = 0; epoch < 20; ++epoch) {
      pair.WriteRandomPages(random, 60);
      pair.Replicate(EpochKind::kSync);  // The validator refuses what was not agreed on.
      ASSERT_TRUE(pair.ReplicaEqualsGuests());
    }
  }
}

TEST(CodecEpoch, AnEpochThatWouldTakeTooLongIsEncodedAtALowerLevel) {
  // Nothing has been measured: the guess for a page at the densest level is 20 us.
  const uint64_t pages = static_cast<uint64_t>(CodecStage::kMaxEncodeNs / (20 * kNsPerUs)) + 100;
  CodedPair pair({.domain_pages = {pages},
                  .slot_bytes = uint32_t{1} << 18,
                  .slots = 300,
                  .cache_pages = 10,
                  .hashes = false});
  pair.sets->MarkAll();
  pair.Replicate(EpochKind::kSync);
  EXPECT_EQ(pair.codec->Report().capped_epochs, 1u);
  EXPECT_EQ(pair.codec->Report().level, CodecLevel::kLz4);
}

TEST(CodecEpoch, MemoryIsKnownBeforeItIsTaken) {
  const std::vector<uint64_t> pages = {300, 100};
  for (const bool hashes : {false, true}) {
    for (const unsigned threads : {1u, 3u}) {
      CodecStageOptions options;
      options.cache_bytes = 100 * kPageBytes;
      options.hashes = hashes;
      options.max_epoch_pages = 50;
      const CodecStage stage(options, pages, threads);
      EXPECT_EQ(CodecStage::MemoryFor(options, pages, threads).total(), stage.memory().total());
      EXPECT_EQ(stage.Report().memory_bytes, stage.memory().total());
    }
  }
  // More than there is can be asked for without being taken.
  CodecStageOptions huge;
  huge.cache_bytes = uint64_t{64} << 30;
  huge.hashes = true;
  EXPECT_GT(CodecStage::MemoryFor(huge, {uint64_t{1} << 26}, 1).total(), uint64_t{96} << 30);
}

TEST(CodecEpoch, NoEpochAllocates) {
  for (const unsigned workers : {0u, 2u}) {
    for (const CodecMode mode : {CodecMode::kAuto, CodecMode::kBoth, CodecMode::kLz4}) {
      CodedPair pair({.workers = workers, .mode = mode});
      Random random(7);
      for (int epoch = 0; epoch < 12; ++epoch) {
        pair.WriteRandomPages(random, 100);
        const size_t before = AllocationCount();
        const bool captured = pair.Capture(EpochKind::kCheckpoint);
        const EncodeResult encoded = pair.builder->Encode(pair.NextIdentity());
        const bool good = pair.Validate(encoded).ok();
        pair.Apply();
        if (epoch % 5 == 4) {
          pair.Fail();
        } else {
          pair.Acknowledge();
        }
        const size_t after = AllocationCount();
        ASSERT_TRUE(captured && good);
        EXPECT_EQ(after, before) << "epoch " << epoch;
      }
    }
  }
}

class CodecEpochModelTest : public ::testing::TestWithParam<unsigned> {};

// Guests write, modes change, epochs fail before or after they were applied (a lost
// acknowledgement). Whatever happened, each good checkpoint makes the replica equal.
TEST_P(CodecEpochModelTest, ReplicaAndCodecStayInStep) {
  constexpr CodecMode kModes[] = {CodecMode::kOff,  CodecMode::kAuto, CodecMode::kFgbi,
                                  CodecMode::kBoth, CodecMode::kLz4,  CodecMode::kSharing};
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    CodedPair pair({.domain_pages = {200 + random.Below(500), 1 + random.Below(90), 64},
                    .slot_bytes = random.Chance(1, 2) ? kMinSlotBytes : uint32_t{1} << 20,
                    .slots = 70,
                    .workers = GetParam(),
                    .cache_pages = random.Below(400),
                    .hashes = random.Chance(1, 2)});
    pair.sets->MarkAll();
    for (int step = 0; step < 60; ++step) {
      if (random.Chance(1, 6)) pair.codec->SetMode(kModes[random.Below(std::size(kModes))]);
      pair.WriteRandomPages(random, random.Below(80));
      const EpochKind kind = random.Chance(1, 2) ? EpochKind::kSync : EpochKind::kCheckpoint;
      if (!pair.Capture(kind, random.Chance(1, 3) ? 1 + random.Below(20) : UINT64_MAX)) continue;
      if (random.Chance(1, 6)) {
        pair.Fail();  // Before anything was encoded.
        continue;
      }
      const EncodeResult encoded = pair.builder->Encode(pair.NextIdentity());
      const absl::Status checked = pair.Validate(encoded);
      ASSERT_TRUE(checked.ok()) << checked;
      if (random.Chance(1, 6)) {
        pair.Fail();  // Nothing of it has arrived.
        continue;
      }
      pair.Apply();
      if (random.Chance(1, 6)) {
        pair.Fail();  // The acknowledgement was lost.
      } else {
        pair.Acknowledge();
      }
      if (kind == EpochKind::kCheckpoint) {
        ASSERT_TRUE(pair.ReplicaEqualsGuests());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, CodecEpochModelTest, ::testing::Values(0u, 2u));

}  // namespace
}  // namespace haven
