// SPDX-License-Identifier: Apache-2.0
//
// What an honest primary writes is committed. journal_reader_lies_test.cc has what is refused.
#include "engine/backup/journal_reader.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/backup/journal_reader_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr SessionId kSession = 0xabcdef0123456789;
constexpr LinkNumber kLink = 3;
constexpr uint32_t kChunkPages = (kMinSlotBytes - kChunkHeaderBytes) / kPageBytes;  // 15

class JournalReaderTest : public ::testing::Test {
 protected:
  JournalReaderTest() { backup_.reader.BeginLink(kLink); }

  static std::vector<std::byte> State(size_t bytes, uint8_t fill) {
    return std::vector<std::byte>(bytes, std::byte{fill});
  }

  // A checkpoint with `pages` raw pages of domain 0 and small states.
  static TestEpoch Checkpoint(Epoch epoch, Epoch base, uint32_t pages = 4) {
    TestEpoch made{.epoch = epoch, .base = base};
    if (pages > 0) made.runs.push_back(FilledRun(0, 12, pages, 1));
    made.states = {State(30, 0xa0), State(20, 0xa1)};
    return made;
  }

  // Both immediates of an epoch that is in the journal.
  absl::StatusOr<std::optional<VerifiedEpoch>> Receive(const CommitRecord& record) {
    const auto chunks =
        backup_.reader.OnImmediate(TestJournal::ChunksImmediate(record.totals.chunk_count));
    if (!chunks.ok()) return chunks;
    EXPECT_FALSE(chunks->has_value());
    return backup_.reader.OnImmediate(CommitImmediate(record.epoch));
  }

  void ExpectCommitted(const absl::StatusOr<std::optional<VerifiedEpoch>>& result,
                       const CommitRecord& record) {
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->has_value());
    EXPECT_EQ((*result)->record, record);
    EXPECT_EQ(backup_.reader.committed_epoch(), record.epoch);
  }

  TestBackup backup_{
      {.slot_bytes = kMinSlotBytes, .ring_slots = 8, .pool_slots = 8, .extent_slots = 2},
      {{.pages = 400, .special = {{10, 12}}, .max_state_bytes = 200000},
       {.pages = 64, .special = {{63, 64}}, .max_state_bytes = 64}},
      kSession};
};

TEST_F(JournalReaderTest, CommitsACheckpoint) {
  const CommitRecord record = backup_.journal.Write(Checkpoint(1, kNoEpoch), kLink, 2, /*first=*/0);
  EXPECT_FALSE(backup_.reader.has_checkpoint());
  const auto result = Receive(record);
  ExpectCommitted(result, record);
  EXPECT_TRUE(backup_.reader.has_checkpoint());
  EXPECT_EQ((*result)->epoch(), 1u);
  EXPECT_EQ((*result)->kind(), EpochKind::kCheckpoint);
  EXPECT_EQ((*result)->slot_crcs.size(), backup_.geometry.slots());
  EXPECT_EQ(backup_.ledger.next(), record.totals.chunk_count);
  EXPECT_EQ(backup_.ledger.unapplied(), 1u);
  EXPECT_EQ(backup_.states.epoch(), 1u);
  EXPECT_EQ(backup_.states.state(0).size(), 30u);
  EXPECT_THAT(backup_.states.state(1), Each(std::byte{0xa1}));
  // Nothing is applied before its commit, nor by the reader at all.
  EXPECT_THAT(backup_.replicas[0]->bytes(), Each(std::byte{0}));
}

TEST_F(JournalReaderTest, SlotCrcsAreThoseOfTheChunks) {
  const CommitRecord record =
      backup_.journal.Write(Checkpoint(1, kNoEpoch, 3 * kChunkPages), kLink, 2, 0);
  ASSERT_GE(record.totals.chunk_count, 3u);
  const auto result = Receive(record);
  ExpectCommitted(result, record);
  for (uint32_t index = 0; index < record.totals.chunk_count; ++index) {
    ChunkHeader header;
    uint32_t crc = 0;
    ASSERT_TRUE(DecodeChunkHeader(backup_.journal.ChunkSlot(record, index), &header, &crc).ok());
    EXPECT_EQ((*result)->slot_crcs[record.placement.ChunkSlot(backup_.geometry, index)], crc);
  }
}

TEST_F(JournalReaderTest, ChunksMayBeAnnouncedInAnyPortions) {
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(1, kNoEpoch, 70), kLink, 2);
  ASSERT_EQ(chunks, 5u);
  const CommitRecord record = backup_.journal.Place(0, chunks);
  for (const auto& [from, to] : {std::pair{0u, 1u}, {1u, 4u}}) {
    backup_.journal.WriteChunks(record, from, to);
    const auto result = backup_.reader.OnImmediate(TestJournal::ChunksImmediate(to));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_FALSE(result->has_value());
    EXPECT_EQ(backup_.reader.committed_epoch(), kNoEpoch);
  }
  backup_.journal.WriteChunks(record, 4, chunks);
  backup_.journal.WriteRecord(record);
  ExpectCommitted(backup_.reader.OnImmediate(CommitImmediate(1)), record);
}

TEST_F(JournalReaderTest, TheRecordAloneIsEnough) {
  const CommitRecord record = backup_.journal.Write(Checkpoint(1, kNoEpoch, 40), kLink, 2, 0);
  ExpectCommitted(backup_.reader.OnImmediate(CommitImmediate(1)), record);
}

TEST_F(JournalReaderTest, SyncEpochsComeBeforeTheFirstCheckpoint) {
  TestEpoch sync{.epoch = 1, .base = kNoEpoch, .kind = EpochKind::kSync};
  sync.runs = {FilledRun(0, 0, 5, 9), ZeroRun(0, 12, 300), FilledRun(1, 1, 2, 7)};
  CommitRecord record = backup_.journal.Write(sync, kLink, 2, 0);
  ExpectCommitted(Receive(record), record);
  EXPECT_EQ(backup_.states.epoch(), kNoEpoch);
  EXPECT_FALSE(backup_.reader.has_checkpoint());

  sync = {.epoch = 2, .base = 1, .kind = EpochKind::kSync};
  record = backup_.journal.Write(sync, kLink, 2, backup_.ledger.next());
  EXPECT_EQ(record.totals.chunk_count, 0u);
  ExpectCommitted(backup_.reader.OnImmediate(CommitImmediate(2)), record);

  record = backup_.journal.Write(Checkpoint(5, 2), kLink, 2, backup_.ledger.next());
  ExpectCommitted(Receive(record), record);
  EXPECT_EQ(backup_.states.epoch(), 5u);
}

TEST_F(JournalReaderTest, TheRingWrapsAround) {
  Epoch base = kNoEpoch;
  for (Epoch epoch = 1; epoch <= 20; ++epoch) {
    const CommitRecord record =
        backup_.journal.Write(Checkpoint(epoch, base, 40), kLink, 2, backup_.ledger.next());
    ASSERT_EQ(record.totals.chunk_count, 3u);
    ExpectCommitted(Receive(record), record);
    if (epoch > 1) backup_.ledger.Release(epoch - 1);
    base = epoch;
  }
  EXPECT_EQ(backup_.ledger.next(), 60u);
}

TEST_F(JournalReaderTest, EpochNumbersMayLeaveGapsAndPass31Bits) {
  CommitRecord record = backup_.journal.Write(Checkpoint(4, kNoEpoch), kLink, 2, 0);
  ExpectCommitted(Receive(record), record);
  const Epoch large = (Epoch{1} << 33) + 5;
  record = backup_.journal.Write(Checkpoint(large, 4), kLink, 2, backup_.ledger.next());
  ExpectCommitted(Receive(record), record);
}

TEST_F(JournalReaderTest, LargeStatesCrossChunks) {
  TestEpoch epoch{.epoch = 1, .base = kNoEpoch};
  std::vector<std::byte> state(200000);
  for (size_t i = 0; i < state.size(); ++i) state[i] = static_cast<std::byte>(i * 7 >> 3);
  epoch.states = {state, State(1, 1)};
  const CommitRecord record = backup_.journal.Write(epoch, kLink, 2, 0);
  ExpectCommitted(Receive(record), record);
  EXPECT_TRUE(std::ranges::equal(backup_.states.state(0), state));
}

TEST_F(JournalReaderTest, AnEpochLargerThanTheRingUsesExtents) {
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(1, kNoEpoch, 180), kLink, 2);
  ASSERT_EQ(chunks, 12u);
  std::array<uint32_t, 3> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(1, extents).ok());
  const CommitRecord record = backup_.journal.Place(0, 8, extents);
  backup_.journal.WriteChunks(record, 0, 10);
  auto result = backup_.reader.OnImmediate(TestJournal::ChunksImmediate(10));
  ASSERT_TRUE(result.ok()) << result.status();
  // Found and verified before the record says where they are: what is written over them now comes
  // too late to matter for the verification.
  backup_.journal.WriteChunks(record, 10, chunks);
  for (const uint32_t index : {7, 8, 9}) {
    TestJournal::Rename(backup_.journal.ChunkSlot(record, index),
                        {.session = 1, .link = 1, .epoch = 1});
  }
  backup_.journal.WriteRecord(record);
  result = backup_.reader.OnImmediate(CommitImmediate(1));
  ExpectCommitted(result, record);
  EXPECT_EQ(backup_.ledger.free_ring_slots(), 0u);
  backup_.ledger.Release(1);
  EXPECT_EQ(backup_.ledger.free_extents(), 4u);
}

// The primary placed the epoch when it did not know yet that slots of the ring had become free.
TEST_F(JournalReaderTest, TheRingsPartMayEndEarly) {
  CommitRecord record = backup_.journal.Write(Checkpoint(1, kNoEpoch, 70), kLink, 2, 0);
  ExpectCommitted(Receive(record), record);

  std::array<uint32_t, 2> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(2, extents).ok());
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(2, 1, 80), kLink, 2);
  ASSERT_EQ(chunks, 6u);
  backup_.ledger.Release(1);
  ASSERT_EQ(backup_.ledger.free_ring_slots(), 8u);
  record = backup_.journal.Place(5, 3, extents);
  backup_.journal.WriteChunks(record, 0, chunks);
  backup_.journal.WriteRecord(record);
  ExpectCommitted(Receive(record), record);
}

TEST_F(JournalReaderTest, AnEpochMayLieInExtentsAlone) {
  const uint32_t ring_chunks = backup_.journal.Encode(Checkpoint(1, kNoEpoch, 110), kLink, 2);
  ASSERT_EQ(ring_chunks, 8u);
  CommitRecord record = backup_.journal.Place(0, 8);
  backup_.journal.WriteChunks(record, 0, 8);
  backup_.journal.WriteRecord(record);
  ExpectCommitted(Receive(record), record);
  ASSERT_EQ(backup_.ledger.free_ring_slots(), 0u);

  std::array<uint32_t, 1> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(2, extents).ok());
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(2, 1, 20), kLink, 2);
  ASSERT_EQ(chunks, 2u);
  record = backup_.journal.Place(8, 0, extents);
  backup_.journal.WriteChunks(record, 0, chunks);
  backup_.journal.WriteRecord(record);
  ExpectCommitted(Receive(record), record);
}

// Extents in another order than they were granted: legal, only not verified early.
TEST_F(JournalReaderTest, TheRecordDecidesOnTheOrderOfExtents) {
  std::array<uint32_t, 3> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(1, extents).ok());
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(1, kNoEpoch, 160), kLink, 2);
  ASSERT_EQ(chunks, 11u);
  const CommitRecord record =
      backup_.journal.Place(0, 8, std::array<uint32_t, 2>{extents[2], extents[0]});
  backup_.journal.WriteChunks(record, 0, chunks);
  backup_.journal.WriteRecord(record);
  ExpectCommitted(Receive(record), record);
}

TEST_F(JournalReaderTest, ANewLinkStartsOverFromTheCommittedEpoch) {
  CommitRecord record = backup_.journal.Write(Checkpoint(1, kNoEpoch), kLink, 2, 0);
  ExpectCommitted(Receive(record), record);
  // Epoch 2 stays unfinished, with extents granted.
  std::array<uint32_t, 1> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(2, extents).ok());
  record = backup_.journal.Write(Checkpoint(2, 1, 40), kLink, 2, backup_.ledger.next());
  ASSERT_TRUE(backup_.reader.OnImmediate(TestJournal::ChunksImmediate(2)).ok());

  backup_.reader.BeginLink(kLink + 1);
  EXPECT_EQ(backup_.reader.link(), kLink + 1);
  EXPECT_EQ(backup_.ledger.free_extents(), 4u);
  record = backup_.journal.Write(Checkpoint(3, 1, 20), kLink + 1, 2, backup_.ledger.next());
  ExpectCommitted(Receive(record), record);
}

TEST_F(JournalReaderTest, ADeltaStartsFromItsBase) {
  TestBackup backup(backup_.geometry, {{.pages = 16}}, kSession, /*base_epoch=*/41);
  backup.reader.BeginLink(1);
  EXPECT_EQ(backup.reader.committed_epoch(), 41u);
  EXPECT_FALSE(backup.reader.has_checkpoint());
  TestEpoch epoch{.epoch = 43, .base = 41};
  epoch.states = {State(1, 1)};
  backup.journal.Write(epoch, 1, 1, 0);
  const auto result = backup.reader.OnImmediate(CommitImmediate(43));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(backup.states.epoch(), 43u);
}

TEST_F(JournalReaderTest, TryFinalCommitsAnEpochWhoseImmediateWasNotSeen) {
  CommitRecord record = backup_.journal.Write(Checkpoint(1, kNoEpoch), kLink, 2, 0);
  ExpectCommitted(Receive(record), record);
  record = backup_.journal.Write(Checkpoint(2, 1, 50), kLink, 2, backup_.ledger.next());
  ASSERT_TRUE(backup_.reader.OnImmediate(TestJournal::ChunksImmediate(2)).ok());
  const absl::StatusOr<VerifiedEpoch> last = backup_.reader.TryFinal();
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(last->record, record);
  EXPECT_EQ(backup_.reader.committed_epoch(), 2u);
  EXPECT_EQ(backup_.states.epoch(), 2u);
  EXPECT_TRUE(absl::IsNotFound(backup_.reader.TryFinal().status()));
}

TEST_F(JournalReaderTest, TryFinalFindsTheRecordInEitherSlot) {
  for (const Epoch epoch : {6, 7}) {
    TestBackup backup(backup_.geometry, {{.pages = 16}}, kSession);
    backup.reader.BeginLink(1);
    TestEpoch made{.epoch = epoch, .base = kNoEpoch};
    made.states = {State(1, 1)};
    backup.journal.Write(made, 1, 1, 0);
    EXPECT_TRUE(backup.reader.TryFinal().ok()) << epoch;
  }
}

// A link that broke in the middle does not make a whole epoch less whole.
TEST_F(JournalReaderTest, TryFinalStartsOverAfterAFailedLink) {
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(1, kNoEpoch, 40), kLink, 2);
  const CommitRecord record = backup_.journal.Place(0, chunks);
  backup_.journal.WriteChunks(record, 0, 2);
  backup_.journal.ChunkSlot(record, 1)[300] ^= std::byte{1};
  EXPECT_FALSE(backup_.reader.OnImmediate(TestJournal::ChunksImmediate(2)).ok());
  EXPECT_TRUE(absl::IsNotFound(backup_.reader.TryFinal().status()));
  backup_.journal.WriteChunks(record, 1, chunks);
  EXPECT_TRUE(absl::IsNotFound(backup_.reader.TryFinal().status()));
  backup_.journal.WriteRecord(record);
  EXPECT_TRUE(backup_.reader.TryFinal().ok());
}

TEST_F(JournalReaderTest, TryFinalSaysWhyNot) {
  const CommitRecord first = backup_.journal.Write(Checkpoint(1, kNoEpoch), kLink, 2, 0);
  ExpectCommitted(Receive(first), first);

  absl::Status status = backup_.reader.TryFinal().status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("session abcdef0123456789 link 3: no commit record follows epoch 1"));

  // Whole, but a chunk is damaged.
  const CommitRecord second =
      backup_.journal.Write(Checkpoint(2, 1, 40), kLink, 2, backup_.ledger.next());
  backup_.journal.ChunkSlot(second, 1)[200] ^= std::byte{1};
  status = backup_.reader.TryFinal().status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("epoch 2 chunk 1"));

  // A torn record: only the first half has arrived.
  const std::span<std::byte> slot = std::span(backup_.region).subspan(1024, 1024);
  std::fill(slot.begin() + 100, slot.end(), std::byte{0});
  status = backup_.reader.TryFinal().status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(backup_.reader.committed_epoch(), 1u);
  EXPECT_EQ(backup_.states.epoch(), 1u);
}

TEST_F(JournalReaderTest, TryFinalIgnoresRecordsOfAnOlderLink) {
  backup_.journal.Write(Checkpoint(1, kNoEpoch), kLink, 2, 0);
  backup_.reader.BeginLink(kLink + 1);
  const absl::Status status = backup_.reader.TryFinal().status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("link is 3, must be equal to 4"));
}

// The journal's memory has served another session before.
TEST_F(JournalReaderTest, TryFinalIgnoresRecordsOfAnotherSession) {
  TestJournal other(backup_.region, backup_.geometry, kSession + 1);
  other.Write(Checkpoint(1, kNoEpoch), kLink, 2, 0);
  const absl::Status status = backup_.reader.TryFinal().status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("session is"));
}

TEST_F(JournalReaderTest, TryFinalNeverCommitsASyncEpoch) {
  TestEpoch sync{.epoch = 1, .base = kNoEpoch, .kind = EpochKind::kSync};
  sync.runs = {FilledRun(0, 0, 5, 9)};
  backup_.journal.Write(sync, kLink, 2, 0);
  const absl::Status status = backup_.reader.TryFinal().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("epoch 1 is no checkpoint"));
  EXPECT_EQ(backup_.reader.committed_epoch(), kNoEpoch);
}

TEST_F(JournalReaderTest, TryFinalNeedsALink) {
  TestBackup backup(backup_.geometry, {{.pages = 16}}, kSession);
  EXPECT_TRUE(absl::IsFailedPrecondition(backup.reader.TryFinal().status()));
}

using JournalReaderDeathTest = JournalReaderTest;

TEST_F(JournalReaderDeathTest, MisuseAborts) {
  EXPECT_DEATH(backup_.reader.BeginLink(kLink), "link > link_");
  Epoch base = kNoEpoch;
  for (Epoch epoch = 1; epoch <= kMaxUnappliedEpochs; ++epoch) {
    const CommitRecord record =
        backup_.journal.Write(Checkpoint(epoch, base), kLink, 2, backup_.ledger.next());
    ExpectCommitted(Receive(record), record);
    base = epoch;
  }
  EXPECT_DEATH((void)backup_.reader.OnImmediate(CommitImmediate(5)), "full");
  EXPECT_DEATH((void)backup_.reader.TryFinal(), "full");
}

}  // namespace
}  // namespace haven
