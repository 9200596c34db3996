// SPDX-License-Identifier: Apache-2.0
//
// Sealed epochs from the journal to the replica's memory.
#include <memory>
#include <string>
#include <vector>

#include "engine/backup/applier.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/replica/control_block.h"
#include "engine/replica/features.h"
#include "engine/replica/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession = 0x99;
constexpr LinkNumber kLink = 1;
constexpr uint64_t kSealed = static_cast<uint64_t>(Feature::kSeal);

class SealedEpochTest : public ::testing::Test {
 protected:
  explicit SealedEpochTest(uint64_t features = kSealed)
      : backup_({.slot_bytes = kMinSlotBytes, .ring_slots = 6, .pool_slots = 0, .extent_slots = 1},
                {{.pages = 300, .max_state_bytes = 100}}, kSession, kNoEpoch, features) {
    backup_.reader.BeginLink(kLink);
  }

  std::unique_ptr<Applier> MakeApplier(unsigned threads) {
    absl::StatusOr<std::unique_ptr<Applier>> applier =
        Applier::Create({.region = backup_.region,
                         .geometry = backup_.geometry,
                         .replicas = backup_.domains(),
                         .threads = threads,
                         .sealed = true});
    HAVEN_CHECK_OK(applier);
    (*applier)->Rekey(kTestSealKey);
    return *std::move(applier);
  }

  CommitRecord Write(uint8_t fill) {
    const Epoch base = backup_.reader.committed_epoch();
    TestEpoch epoch{.epoch = base + 1, .base = base};
    epoch.runs = {FilledRun(0, 3, 40, fill), ZeroRun(0, 50, 4)};
    epoch.states = {std::vector<std::byte>(50, std::byte{fill})};
    return backup_.journal.Write(epoch, kLink, 1, backup_.ledger.next());
  }
  absl::StatusOr<std::optional<VerifiedEpoch>> Take(const CommitRecord& record) {
    return backup_.reader.OnImmediate(CommitImmediate(record.epoch));
  }
  // What the header of the first chunk says of itself.
  void SetSealed(const CommitRecord& record, bool sealed) {
    ChunkHeader header;
    uint32_t crc = 0;
    const std::span<std::byte> slot = backup_.journal.ChunkSlot(record, 0);
    ASSERT_TRUE(DecodeChunkHeader(slot, &header, &crc).ok());
    header.sealed = sealed;
    EncodeChunkHeader(header, slot.first<kChunkHeaderBytes>());
  }
  void ExpectRefused(const CommitRecord& record, absl::StatusCode code, const std::string& why) {
    const absl::Status status = Take(record).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    EXPECT_EQ(backup_.reader.committed_epoch(), record.epoch - 1);
  }
  std::byte ByteOfPage(Gfn gfn) const { return *backup_.replicas[0]->memory().Page(gfn); }

  TestBackup backup_;
};

TEST_F(SealedEpochTest, IsCommittedAndApplied) {
  for (const unsigned threads : {0u, 2u}) {
    const std::unique_ptr<Applier> applier = MakeApplier(threads);
    for (uint8_t fill = 1; fill < 4; ++fill) {
      const auto committed = Take(Write(fill));
      ASSERT_TRUE(committed.ok()) << committed.status();
      EXPECT_EQ(backup_.states.state(0)[7], std::byte{fill});
      applier->Submit(**committed);
      ASSERT_TRUE(applier->Drain().ok());
      backup_.ledger.Release(applier->PopFinished()->epoch);
      EXPECT_EQ(ByteOfPage(3), std::byte{fill});
      EXPECT_EQ(ByteOfPage(42), static_cast<std::byte>(fill + 39));
    }
  }
}

TEST_F(SealedEpochTest, HidesThePagesInTheJournal) {
  const CommitRecord record = Write(0x5a);
  const std::span<const std::byte> slot = backup_.journal.ChunkSlot(record, 0);
  const std::string page(64, '\x5a');
  const std::string_view all(reinterpret_cast<const char*>(slot.data()), slot.size());
  EXPECT_EQ(all.find(page), std::string_view::npos);
}

TEST_F(SealedEpochTest, ABitThatChangedOnItsWayIsRefusedLikeABadCrc) {
  const CommitRecord record = Write(1);
  backup_.journal.ChunkSlot(record, 1)[5000] ^= std::byte{4};
  ExpectRefused(record, absl::StatusCode::kDataLoss, "the seal does not fit");
}

TEST_F(SealedEpochTest, APlainChunkIsRefused) {
  const CommitRecord record = Write(1);
  ASSERT_NO_FATAL_FAILURE(SetSealed(record, false));
  ExpectRefused(record, absl::StatusCode::kInvalidArgument, "flags");
}

TEST_F(SealedEpochTest, ARecordWithoutItsTagIsRefused) {
  const CommitRecord record = Write(1);
  const size_t tag = CommitSlotOffset(record.epoch) + kCommitRecordBytes;
  backup_.region[tag + 3] ^= std::byte{1};
  ExpectRefused(record, absl::StatusCode::kDataLoss, "commit record of epoch 1");
}

TEST_F(SealedEpochTest, ARecordThatCutsTheEpochShortIsRefused) {
  CommitRecord record = Write(1);
  EpochTotals first;
  ChunkHeader header;
  ChunkTotals totals;
  ASSERT_TRUE(
      DecodeChunkHeader(backup_.journal.ChunkSlot(record, 0), &header, &totals.chunk_crc).ok());
  totals.payload_bytes = header.payload_bytes;
  totals.frame_count = header.frame_count;
  first.Add(totals);
  record.totals = first;
  record.placement.ring_slots_used = 1;
  // By somebody who does not have the key.
  EncodeCommitRecord(record, std::span(backup_.region)
                                 .subspan(CommitSlotOffset(record.epoch))
                                 .first<kCommitRecordBytes>());
  ExpectRefused(record, absl::StatusCode::kDataLoss, "the seal does not fit");
}

TEST_F(SealedEpochTest, AForgedRecordIsNoneForAPromotion) {
  const CommitRecord record = Write(1);
  backup_.region[CommitSlotOffset(record.epoch) + kCommitRecordBytes] ^= std::byte{1};
  EXPECT_TRUE(absl::IsNotFound(backup_.reader.TryFinal().status()));
}

TEST_F(SealedEpochTest, WhatChangesAfterTheAcknowledgementPoisonsTheReplica) {
  const std::unique_ptr<Applier> applier = MakeApplier(0);
  const CommitRecord record = Write(1);
  const auto committed = Take(record);
  ASSERT_TRUE(committed.ok()) << committed.status();
  backup_.journal.ChunkSlot(record, 0)[300] ^= std::byte{1};
  applier->Submit(**committed);
  const absl::Status status = applier->Drain();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the replica is lost"));
}

class UnsealedEpochTest : public SealedEpochTest {
 protected:
  UnsealedEpochTest() : SealedEpochTest(0) {}
};

TEST_F(UnsealedEpochTest, ASealedChunkIsRefused) {
  const CommitRecord record = Write(1);
  ASSERT_NO_FATAL_FAILURE(SetSealed(record, true));
  ExpectRefused(record, absl::StatusCode::kInvalidArgument, "no sealing was agreed on");
}

}  // namespace
}  // namespace haven
