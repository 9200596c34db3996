// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/applier.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/replica/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession = 0x99;
constexpr LinkNumber kLink = 1;

bool AllBytes(std::span<const std::byte> bytes, std::byte value) {
  return std::ranges::all_of(bytes, [value](std::byte byte) { return byte == value; });
}

// The parameter is the number of worker threads.
class ApplierTest : public ::testing::TestWithParam<unsigned> {
 protected:
  ApplierTest() { backup_.reader.BeginLink(kLink); }

  std::unique_ptr<Applier> MakeApplier(bool recheck_crc = true) {
    absl::StatusOr<std::unique_ptr<Applier>> applier =
        Applier::Create({.region = backup_.region,
                         .geometry = backup_.geometry,
                         .replicas = backup_.domains(),
                         .threads = GetParam(),
                         .recheck_crc = recheck_crc});
    EXPECT_TRUE(applier.ok()) << applier.status();
    return *std::move(applier);
  }

  // Commits a checkpoint with these runs after the last committed epoch.
  VerifiedEpoch Commit(std::vector<TestRun> runs) {
    const Epoch base = backup_.reader.committed_epoch();
    TestEpoch epoch{.epoch = base + 1, .base = base};
    epoch.runs = std::move(runs);
    epoch.states = {std::vector<std::byte>(1), std::vector<std::byte>(1)};
    backup_.journal.Write(epoch, kLink, 2, backup_.ledger.next());
    auto result = backup_.reader.OnImmediate(CommitImmediate(base + 1));
    EXPECT_TRUE(result.ok()) << result.status();
    return **result;
  }

  std::span<const std::byte> Page(uint16_t domain, Gfn gfn) const {
    return backup_.replicas[domain]->bytes().subspan(gfn * kPageBytes, kPageBytes);
  }

  // The slot of a chunk of a committed epoch.
  std::span<std::byte> Slot(const VerifiedEpoch& epoch, uint32_t index) {
    return backup_.journal.ChunkSlot(epoch.record, index);
  }

  // Rewrites the frame at the front of a chunk, with all CRCs fitting, as a liar would.
  static void ForgeFirstFrame(std::span<std::byte> slot, FrameType type, uint16_t domain,
                              uint32_t count, uint64_t value) {
    EncodeFrameHeader(type, domain, count, value,
                      slot.subspan(kChunkHeaderBytes).first<kFrameHeaderBytes>());
  }

  void ExpectPoisoned(Applier& applier, const std::string& text) {
    const absl::Status status = applier.Drain();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), HasSubstr("changed after the acknowledgement"));
    EXPECT_EQ(applier.status(), status);
    const std::optional<AppliedEpoch> finished = applier.PopFinished();
    ASSERT_TRUE(finished.has_value());
    EXPECT_EQ(finished->status, status);
  }

  TestBackup backup_{
      {.slot_bytes = kMinSlotBytes, .ring_slots = 16, .pool_slots = 4, .extent_slots = 2},
      {{.pages = 300, .special = {{10, 12}}}, {.pages = 64, .special = {{63, 64}}}},
      kSession};
};

TEST_P(ApplierTest, CopiesRawRunsAndClearsZeroRuns) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  std::fill_n(backup_.replicas[0]->memory().Page(10), 2 * kPageBytes, std::byte{0xee});
  applier->Submit(
      Commit({FilledRun(0, 5, 5, 1), FilledRun(0, 100, 100, 50), FilledRun(1, 0, 1, 7)}));
  ASSERT_TRUE(applier->Drain().ok());
  applier->Submit(Commit({FilledRun(0, 4, 2, 90), ZeroRun(0, 101, 199), ZeroRun(1, 0, 63)}));
  ASSERT_TRUE(applier->Drain().ok());

  EXPECT_TRUE(AllBytes(Page(0, 3), std::byte{0}));
  EXPECT_TRUE(AllBytes(Page(0, 4), std::byte{90}));
  EXPECT_TRUE(AllBytes(Page(0, 5), std::byte{91}));
  EXPECT_TRUE(AllBytes(Page(0, 6), std::byte{2}));
  EXPECT_TRUE(AllBytes(Page(0, 9), std::byte{5}));
  EXPECT_TRUE(AllBytes(Page(0, 10), std::byte{0xee}));
  EXPECT_TRUE(AllBytes(Page(0, 11), std::byte{0xee}));
  EXPECT_TRUE(AllBytes(Page(0, 100), std::byte{50}));
  EXPECT_TRUE(AllBytes(backup_.replicas[0]->bytes().subspan(101 * kPageBytes), std::byte{0}));
  EXPECT_TRUE(AllBytes(backup_.replicas[1]->bytes(), std::byte{0}));
}

TEST_P(ApplierTest, RunsCrossTheChunksOfTheMapping) {
  constexpr Gfn kEdge = GuestMemory::kChunkPages;
  TestBackup large(backup_.geometry, {{.pages = kEdge + 100}}, kSession);
  large.reader.BeginLink(kLink);
  absl::StatusOr<std::unique_ptr<Applier>> applier = Applier::Create({.region = large.region,
                                                                      .geometry = large.geometry,
                                                                      .replicas = large.domains(),
                                                                      .threads = GetParam()});
  ASSERT_TRUE(applier.ok());
  TestEpoch epoch{.epoch = 1, .base = kNoEpoch};
  epoch.runs = {ZeroRun(0, 0, kEdge - 8), FilledRun(0, kEdge - 4, 10, 1),
                ZeroRun(0, kEdge + 7, 93)};
  epoch.states = {std::vector<std::byte>(1)};
  large.journal.Write(epoch, kLink, 1, 0);
  const auto committed = large.reader.OnImmediate(CommitImmediate(1));
  ASSERT_TRUE(committed.ok()) << committed.status();
  (*applier)->Submit(**committed);
  ASSERT_TRUE((*applier)->Drain().ok());
  for (Gfn i = 0; i < 10; ++i) {
    EXPECT_TRUE(
        AllBytes(large.replicas[0]->bytes().subspan((kEdge - 4 + i) * kPageBytes, kPageBytes),
                 static_cast<std::byte>(1 + i)));
  }
  EXPECT_TRUE(AllBytes(large.replicas[0]->bytes().last(94 * kPageBytes), std::byte{0}));
}

TEST_P(ApplierTest, FinishesEpochsInOrder) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  for (uint8_t round = 0; round < 20; ++round) {
    std::vector<Epoch> submitted;
    for (uint8_t i = 0; i < kMaxUnappliedEpochs; ++i) {
      ASSERT_TRUE(applier->CanSubmit());
      // The same pages in every epoch: the last one must win.
      const VerifiedEpoch epoch =
          Commit({FilledRun(0, 20, 30, static_cast<uint8_t>(round * 4 + i))});
      submitted.push_back(epoch.epoch());
      applier->Submit(epoch);
    }
    EXPECT_FALSE(applier->CanSubmit());
    ASSERT_TRUE(applier->Drain().ok());
    EXPECT_FALSE(applier->CanSubmit());
    for (const Epoch epoch : submitted) {
      const std::optional<AppliedEpoch> finished = applier->PopFinished();
      ASSERT_TRUE(finished.has_value());
      EXPECT_EQ(finished->epoch, epoch);
      EXPECT_TRUE(finished->status.ok());
      backup_.ledger.Release(epoch);
      EXPECT_TRUE(applier->CanSubmit());
    }
    EXPECT_FALSE(applier->PopFinished().has_value());
    for (Gfn page = 0; page < 30; ++page) {
      EXPECT_TRUE(AllBytes(Page(0, 20 + page), static_cast<std::byte>(round * 4 + 3 + page)));
    }
  }
}

TEST_P(ApplierTest, AnEpochWithoutChunksFinishes) {
  TestBackup sync(backup_.geometry, {{.pages = 16}}, kSession);
  sync.reader.BeginLink(kLink);
  absl::StatusOr<std::unique_ptr<Applier>> applier = Applier::Create({.region = sync.region,
                                                                      .geometry = sync.geometry,
                                                                      .replicas = sync.domains(),
                                                                      .threads = GetParam()});
  ASSERT_TRUE(applier.ok());
  sync.journal.Write({.epoch = 1, .base = kNoEpoch, .kind = EpochKind::kSync}, kLink, 1, 0);
  const auto committed = sync.reader.OnImmediate(CommitImmediate(1));
  ASSERT_TRUE(committed.ok()) << committed.status();
  (*applier)->Submit(**committed);
  ASSERT_TRUE((*applier)->Drain().ok());
  EXPECT_EQ((*applier)->PopFinished()->epoch, 1u);
}

TEST_P(ApplierTest, TheEventSaysThatAnEpochIsDone) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  if (GetParam() == 0) {
    EXPECT_EQ(applier->event_fd(), -1);
    return;
  }
  pollfd event{.fd = applier->event_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&event, 1, 0), 0);
  applier->Submit(Commit({FilledRun(0, 20, 40, 1)}));
  ASSERT_EQ(poll(&event, 1, 30000), 1);
  EXPECT_TRUE(applier->PopFinished().has_value());
  EXPECT_FALSE(applier->PopFinished().has_value());
  EXPECT_EQ(poll(&event, 1, 0), 0);
}

TEST_P(ApplierTest, WithoutWorkersAfterJoinSubmitAppliesInline) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  applier->Submit(Commit({FilledRun(0, 20, 40, 1)}));
  ASSERT_TRUE(applier->Drain().ok());
  applier->Join();
  applier->Join();
  applier->Submit(Commit({FilledRun(0, 20, 1, 77)}));
  EXPECT_TRUE(AllBytes(Page(0, 20), std::byte{77}));
  EXPECT_TRUE(applier->PopFinished().has_value());
  EXPECT_TRUE(applier->PopFinished().has_value());
}

TEST_P(ApplierTest, MayBeDestroyedWithWorkLeft) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  for (size_t i = 0; i < kMaxUnappliedEpochs; ++i)
    applier->Submit(Commit({FilledRun(0, 20, 30, 1)}));
}

TEST_P(ApplierTest, AStatusOfAllIsOkUntilSomethingGoesWrong) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  EXPECT_TRUE(applier->status().ok());
  EXPECT_TRUE(applier->Drain().ok());
  EXPECT_FALSE(applier->PopFinished().has_value());
}

// The acknowledgement is given; from here on the peer writes what it likes.

TEST_P(ApplierTest, APayloadRewrittenPoisonsTheReplica) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  const VerifiedEpoch epoch = Commit({FilledRun(0, 20, 40, 1)});
  Slot(epoch, 1)[kChunkHeaderBytes + kFrameHeaderBytes + 5000] ^= std::byte{1};
  applier->Submit(epoch);
  ExpectPoisoned(*applier, "epoch 1 chunk 1 slot 1");
}

TEST_P(ApplierTest, AHeaderDamagedIsNotApplied) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  const VerifiedEpoch epoch = Commit({FilledRun(0, 20, 40, 1)});
  Slot(epoch, 0)[8] ^= std::byte{1};
  applier->Submit(epoch);
  ExpectPoisoned(*applier, "epoch 1 chunk 0");
}

// The chunk of a later epoch in the slot of one that is not applied: whole and good in itself.
TEST_P(ApplierTest, ASlotReusedBeforeItsReleaseIsNotApplied) {
  for (const bool recheck_crc : {true, false}) {
    const std::unique_ptr<Applier> applier = MakeApplier(recheck_crc);
    const VerifiedEpoch epoch = Commit({FilledRun(0, 20, 4, 1)});
    backup_.journal.Encode(
        {.epoch = 50, .base = 49, .runs = {FilledRun(0, 20, 4, 9)}, .states = {}}, kLink, 2);
    backup_.journal.WriteChunks(backup_.journal.Place(epoch.record.placement.first_position, 1), 0,
                                1);
    applier->Submit(epoch);
    ExpectPoisoned(*applier, "the chunk's CRC as verified");
    EXPECT_TRUE(AllBytes(Page(0, 20), std::byte{0}));
  }
}

TEST_P(ApplierTest, ForgedFramesTouchNothingButRam) {
  struct Forgery {
    const char* text;
    FrameType type;
    uint16_t domain;
    uint32_t count;
    uint64_t value;
  };
  const Forgery forgeries[] = {
      {"frame number is 10", FrameType::kRawRun, 0, 4, 8},
      {"frame number is 300", FrameType::kRawRun, 0, 4, 298},
      {"frame number is 1099511627776", FrameType::kRawRun, 0, 4, uint64_t{1} << 40},
      {"domain is 2", FrameType::kRawRun, 2, 4, 20},
      {"must be within the payload", FrameType::kRawRun, 0, 5000, 20},
      {"frame number is 10", FrameType::kZeroRun, 0, 0xffffffff, 0},
  };
  for (const Forgery& forgery : forgeries) {
    // Without the CRC the bounds are all that is left.
    const std::unique_ptr<Applier> applier = MakeApplier(/*recheck_crc=*/false);
    for (Gfn gfn : {10, 11}) {
      std::fill_n(backup_.replicas[0]->memory().Page(gfn), kPageBytes, std::byte{0xee});
    }
    const VerifiedEpoch epoch = Commit({FilledRun(0, 20, 4, 1)});
    ForgeFirstFrame(Slot(epoch, 0), forgery.type, forgery.domain, forgery.count, forgery.value);
    applier->Submit(epoch);
    ExpectPoisoned(*applier, forgery.text);
    backup_.ledger.Release(epoch.epoch());
    EXPECT_TRUE(AllBytes(Page(0, 10), std::byte{0xee}));
    EXPECT_TRUE(AllBytes(Page(0, 11), std::byte{0xee}));
    EXPECT_TRUE(AllBytes(backup_.replicas[1]->bytes(), std::byte{0}));
  }
}

TEST_P(ApplierTest, AForgeryWithinBoundsIsFoundByTheCrcAlone) {
  VerifiedEpoch epoch = Commit({FilledRun(0, 20, 4, 1)});
  ForgeFirstFrame(Slot(epoch, 0), FrameType::kRawRun, 1, 4, 20);
  const std::unique_ptr<Applier> trusting = MakeApplier(/*recheck_crc=*/false);
  trusting->Submit(epoch);
  EXPECT_TRUE(trusting->Drain().ok());
  EXPECT_TRUE(AllBytes(Page(1, 20), std::byte{1}));
  const std::unique_ptr<Applier> careful = MakeApplier(/*recheck_crc=*/true);
  careful->Submit(epoch);
  ExpectPoisoned(*careful, "payload_crc");
}

TEST_P(ApplierTest, PoisonIsForEver) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  applier->Submit(Commit({FilledRun(0, 20, 4, 1)}));
  ASSERT_TRUE(applier->Drain().ok());
  const VerifiedEpoch bad = Commit({FilledRun(0, 20, 4, 2)});
  Slot(bad, 0)[500] ^= std::byte{1};
  applier->Submit(bad);
  const VerifiedEpoch good = Commit({FilledRun(0, 20, 4, 3)});
  applier->Submit(good);
  const absl::Status poison = applier->Drain();
  EXPECT_TRUE(absl::IsDataLoss(poison));

  EXPECT_TRUE(applier->PopFinished()->status.ok());
  EXPECT_EQ(applier->PopFinished()->status, poison);
  const std::optional<AppliedEpoch> last = applier->PopFinished();
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->epoch, 3u);
  EXPECT_EQ(last->status, poison);
  // The page is nobody's state now, and what came after the bad epoch was not applied to it.
  EXPECT_FALSE(AllBytes(Page(0, 20), std::byte{3}));
  EXPECT_EQ(applier->status(), poison);
}

INSTANTIATE_TEST_SUITE_P(Threads, ApplierTest, ::testing::Values(0u, 1u, 3u));

using ApplierDeathTest = ApplierTest;

TEST_P(ApplierDeathTest, MisuseAborts) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  VerifiedEpoch epoch = Commit({FilledRun(0, 20, 4, 1)});
  epoch.slot_crcs = epoch.slot_crcs.first(3);
  EXPECT_DEATH(applier->Submit(epoch), "slot_crcs");
  EXPECT_DEATH((void)Applier::Create({.region = std::span(backup_.region).first(5000),
                                      .geometry = backup_.geometry,
                                      .replicas = backup_.domains()}),
               "total_bytes");
  EXPECT_DEATH((void)Applier::Create(
                   {.region = backup_.region, .geometry = backup_.geometry, .replicas = {}}),
               "replicas");
}

INSTANTIATE_TEST_SUITE_P(Inline, ApplierDeathTest, ::testing::Values(0u));

}  // namespace
}  // namespace haven
