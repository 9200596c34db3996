// SPDX-License-Identifier: Apache-2.0
//
// A primary that lies, breaks or is interrupted: every case is refused, with nothing committed.
#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/backup/journal_reader.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/replica/control_block.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession = 0x77;
constexpr LinkNumber kLink = 2;

// Epochs 1 and 2 are committed and not applied; epoch 3, a checkpoint of 3 chunks, is the one under
// test.
class JournalReaderLiesTest : public ::testing::Test {
 protected:
  JournalReaderLiesTest() {
    backup_.reader.BeginLink(kLink);
    Epoch base = kNoEpoch;
    for (const Epoch epoch : {1, 2}) {
      backup_.journal.Write(Checkpoint(epoch, base, 1), kLink, 2, backup_.ledger.next());
      const auto result = backup_.reader.OnImmediate(CommitImmediate(epoch));
      EXPECT_TRUE(result.ok()) << result.status();
      base = epoch;
    }
  }

  static TestEpoch Checkpoint(Epoch epoch, Epoch base, uint32_t pages) {
    TestEpoch made{.epoch = epoch, .base = base};
    made.runs = {FilledRun(0, 12, pages, static_cast<uint8_t>(epoch))};
    made.states = {std::vector<std::byte>(40, std::byte{1}), std::vector<std::byte>(9)};
    return made;
  }

  TestEpoch Epoch3() const { return Checkpoint(3, 2, 40); }
  RingPosition next() const { return backup_.ledger.next(); }

  // Tells the reader of `chunks` chunks (if any) and of the record of `epoch`; the first error.
  absl::Status Receive(uint32_t chunks, Epoch epoch) {
    if (chunks > 0) {
      const auto result = backup_.reader.OnImmediate(TestJournal::ChunksImmediate(chunks));
      if (!result.ok()) return result.status();
    }
    return backup_.reader.OnImmediate(CommitImmediate(epoch)).status();
  }

  // The reader refused: `code`, and `text` in the message. Nothing is committed, nothing more is
  // believed on this link, and a new one works.
  void ExpectRefused(const absl::Status& status, absl::StatusCode code, const std::string& text) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), HasSubstr("session 0000000000000077 link 2"));
    EXPECT_EQ(backup_.reader.committed_epoch(), 2u);
    EXPECT_EQ(backup_.states.epoch(), 2u);
    EXPECT_EQ(backup_.ledger.unapplied(), 2u);
    EXPECT_EQ(next(), 2u);
    EXPECT_TRUE(absl::IsFailedPrecondition(backup_.reader.OnImmediate(1).status()));

    backup_.reader.BeginLink(kLink + 1);
    backup_.journal.Write(Checkpoint(9, 2, 30), kLink + 1, 2, next());
    const auto result = backup_.reader.OnImmediate(CommitImmediate(9));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(backup_.reader.committed_epoch(), 9u);
  }

  void ExpectInvalid(const absl::Status& status, const std::string& text) {
    ExpectRefused(status, absl::StatusCode::kInvalidArgument, text);
  }
  void ExpectDataLoss(const absl::Status& status, const std::string& text) {
    ExpectRefused(status, absl::StatusCode::kDataLoss, text);
  }

  // Writes epoch 3 honestly but for the record, which `lie` changes.
  absl::Status ReceiveWithRecord(const std::function<void(CommitRecord*)>& lie) {
    CommitRecord record = backup_.journal.Write(Epoch3(), kLink, 2, next());
    lie(&record);
    backup_.journal.WriteRecord(record);
    return Receive(0, record.epoch);
  }

  // Writes epoch 3 honestly but for the identity of chunk `index`, with a CRC that fits. `early`:
  // by way of an immediate for the chunks, else by the record alone.
  absl::Status ReceiveWithIdentity(uint32_t index, bool early,
                                   const std::function<void(ChunkIdentity*)>& lie) {
    const CommitRecord record = backup_.journal.Write(Epoch3(), kLink, 2, next());
    const std::span<std::byte> slot = backup_.journal.ChunkSlot(record, index);
    ChunkIdentity identity = TestJournal::Identity(slot);
    lie(&identity);
    TestJournal::Rename(slot, identity);
    return Receive(early ? record.totals.chunk_count : 0, 3);
  }

  TestBackup backup_{
      {.slot_bytes = kMinSlotBytes, .ring_slots = 8, .pool_slots = 8, .extent_slots = 2},
      {{.pages = 400, .special = {{10, 12}}, .min_state_bytes = 10, .max_state_bytes = 64},
       {.pages = 64, .special = {{63, 64}}, .max_state_bytes = 64}},
      kSession};
};

TEST_F(JournalReaderLiesTest, RecordOfAnotherSession) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) { record->session = 0x78; }),
                "session is 120");
}

TEST_F(JournalReaderLiesTest, RecordOfAnotherLink) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) { record->link = 1; }), "link is 1");
}

TEST_F(JournalReaderLiesTest, RecordOfACommittedEpoch) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) {
                  record->epoch = 2;
                  record->base_epoch = 1;
                }),
                "epoch is 2, must be above the last committed, 2");
}

TEST_F(JournalReaderLiesTest, RecordOnAnotherBase) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) { record->base_epoch = 1; }),
                "base_epoch is 1");
}

TEST_F(JournalReaderLiesTest, RecordOnAFutureBase) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) {
                  record->epoch = 5;
                  record->base_epoch = 3;
                }),
                "base_epoch is 3");
}

TEST_F(JournalReaderLiesTest, RecordAtAnotherPosition) {
  ExpectInvalid(
      ReceiveWithRecord([](CommitRecord* record) { record->placement.first_position -= 1; }),
      "first_position is 1");
}

TEST_F(JournalReaderLiesTest, RecordOfAnotherNumberOfDomains) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) { record->domain_count = 1; }),
                "domain_count is 1");
}

TEST_F(JournalReaderLiesTest, RecordOfAnotherKind) {
  ExpectInvalid(ReceiveWithRecord([](CommitRecord* record) { record->kind = EpochKind::kSync; }),
                "kind is 1");
}

TEST_F(JournalReaderLiesTest, RecordWithWrongSums) {
  struct Lie {
    const char* text;
    std::function<void(EpochTotals*)> change;
  };
  const Lie lies[] = {
      {"payload_bytes", [](EpochTotals* totals) { totals->payload_bytes -= 16; }},
      {"frame_count", [](EpochTotals* totals) { totals->frame_count += 1; }},
      {"page_count", [](EpochTotals* totals) { totals->page_count -= 1; }},
      {"chunks_crc", [](EpochTotals* totals) { totals->chunks_crc ^= 1; }},
  };
  LinkNumber link = kLink;
  Epoch epoch = 3;
  for (const Lie& lie : lies) {
    CommitRecord record = backup_.journal.Write(Checkpoint(epoch, 2, 40), link, 2, next());
    lie.change(&record.totals);
    backup_.journal.WriteRecord(record);
    const absl::Status status = Receive(0, epoch);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(lie.text));
    EXPECT_EQ(backup_.reader.committed_epoch(), 2u);
    backup_.reader.BeginLink(++link);
    ++epoch;
  }
}

TEST_F(JournalReaderLiesTest, RecordWithFewerChunksThanAnnounced) {
  const CommitRecord record = backup_.journal.Write(Epoch3(), kLink, 2, next());
  CommitRecord lie = record;
  lie.totals.chunk_count = 2;
  lie.totals.payload_bytes = 2 * kPageBytes;
  lie.placement.ring_slots_used = 2;
  backup_.journal.WriteRecord(lie);
  ExpectInvalid(Receive(3, 3), "chunk_count is 2, must be at least the chunks announced, 3");
}

TEST_F(JournalReaderLiesTest, RecordThatMovesVerifiedChunks) {
  std::array<uint32_t, 1> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(3, extents).ok());
  const uint32_t chunks = backup_.journal.Encode(Epoch3(), kLink, 2);
  backup_.journal.WriteChunks(backup_.journal.Place(next(), chunks), 0, chunks);
  const CommitRecord moved = backup_.journal.Place(next(), chunks - 1, extents);
  backup_.journal.WriteChunks(moved, 0, chunks);
  backup_.journal.WriteRecord(moved);
  ExpectInvalid(Receive(chunks, 3), "slot of chunk 2");
}

TEST_F(JournalReaderLiesTest, RecordInExtentsThatWereNotGranted) {
  const uint32_t chunks = backup_.journal.Encode(Epoch3(), kLink, 2);
  const CommitRecord record = backup_.journal.Place(next(), chunks - 1, std::array<uint32_t, 1>{2});
  backup_.journal.WriteChunks(record, 0, chunks);
  backup_.journal.WriteRecord(record);
  ExpectInvalid(Receive(0, 3), "extent is 2, must be granted to epoch 3");
}

TEST_F(JournalReaderLiesTest, RecordInExtentsGrantedToAnotherEpoch) {
  std::array<uint32_t, 1> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(4, extents).ok());
  const uint32_t chunks = backup_.journal.Encode(Epoch3(), kLink, 2);
  const CommitRecord record = backup_.journal.Place(next(), chunks - 1, extents);
  backup_.journal.WriteChunks(record, 0, chunks);
  backup_.journal.WriteRecord(record);
  ExpectInvalid(Receive(0, 3), "must be granted to epoch 3");
}

TEST_F(JournalReaderLiesTest, RecordOverSlotsThatAreNotApplied) {
  const uint32_t chunks = backup_.journal.Encode(Checkpoint(3, 2, 100), kLink, 2);
  ASSERT_EQ(chunks, 7u);  // Six slots of eight are free.
  const CommitRecord record = backup_.journal.Place(next(), chunks);
  backup_.journal.WriteRecord(record);
  ExpectInvalid(Receive(0, 3),
                "ring_slots_used is 7, must be at most the free slots of the ring, 6");
}

TEST_F(JournalReaderLiesTest, RecordOfAnotherEpochThanTheChunks) {
  const CommitRecord record = backup_.journal.Write(Epoch3(), kLink, 2, next());
  CommitRecord lie = record;
  lie.epoch = 5;
  backup_.journal.WriteRecord(lie);
  ExpectInvalid(Receive(record.totals.chunk_count, 5), "epoch is 5");
}

TEST_F(JournalReaderLiesTest, RecordThatTheImmediateDoesNotName) {
  const CommitRecord record = backup_.journal.Write(Epoch3(), kLink, 2, next());
  ExpectInvalid(backup_.reader.OnImmediate(CommitImmediate(record.epoch + 2)).status(),
                "low 31 bits");
}

TEST_F(JournalReaderLiesTest, ImmediateForTheOtherCommitSlot) {
  backup_.journal.Write(Epoch3(), kLink, 2, next());
  ExpectInvalid(backup_.reader.OnImmediate(CommitImmediate(4)).status(), "epoch is 2");
}

TEST_F(JournalReaderLiesTest, ImmediateOfTheLastCommitAgain) {
  ExpectInvalid(backup_.reader.OnImmediate(CommitImmediate(2)).status(),
                "epoch is 2, must be above the last committed, 2");
}

TEST_F(JournalReaderLiesTest, RecordNeverWritten) {
  const std::span<std::byte> slot =
      std::span(backup_.region).subspan(CommitSlotOffset(3), kCommitSlotBytes);
  std::fill(slot.begin(), slot.end(), std::byte{0});
  ExpectDataLoss(Receive(0, 3), "never written");
}

TEST_F(JournalReaderLiesTest, RecordTornAnywhere) {
  LinkNumber link = kLink;
  Epoch epoch = 3;
  // The first 32 bytes are those of the record before, but for the epoch.
  for (size_t arrived = 32; arrived < kCommitRecordBytes; arrived += 16) {
    const std::span<std::byte> slot =
        std::span(backup_.region).subspan(CommitSlotOffset(epoch), kCommitRecordBytes);
    const std::vector<std::byte> before(slot.begin(), slot.end());
    backup_.journal.Write(Checkpoint(epoch, 2, 2), link, 2, next());
    std::copy(before.begin() + static_cast<ptrdiff_t>(arrived), before.end(),
              slot.begin() + static_cast<ptrdiff_t>(arrived));
    const absl::Status status = Receive(0, epoch);
    EXPECT_TRUE(absl::IsDataLoss(status)) << arrived << ": " << status;
    EXPECT_EQ(backup_.reader.committed_epoch(), 2u);
    backup_.reader.BeginLink(++link);
    epoch += 2;
  }
}

TEST_F(JournalReaderLiesTest, ChunkNeverWritten) {
  const uint32_t chunks = backup_.journal.Encode(Epoch3(), kLink, 2);
  backup_.journal.WriteChunks(backup_.journal.Place(next(), chunks), 0, 1);
  ExpectDataLoss(Receive(2, 3), "epoch 3 chunk 1 slot 3: never written");
}

TEST_F(JournalReaderLiesTest, PayloadDamagedAnywhere) {
  LinkNumber link = kLink;
  Epoch epoch = 3;
  for (const bool early : {true, false}) {
    for (size_t offset = 0; offset < 3 * kPageBytes; offset += 1021) {
      const CommitRecord record = backup_.journal.Write(Checkpoint(epoch, 2, 40), link, 2, next());
      backup_.journal.ChunkSlot(record, 1)[offset] ^= std::byte{0x10};
      const absl::Status status = Receive(early ? 3 : 0, epoch);
      EXPECT_TRUE(absl::IsDataLoss(status)) << offset << ": " << status;
      EXPECT_EQ(backup_.reader.committed_epoch(), 2u);
      backup_.reader.BeginLink(++link);
      ++epoch;
    }
  }
}

TEST_F(JournalReaderLiesTest, ChunkOfAnotherSession) {
  ExpectInvalid(ReceiveWithIdentity(1, true, [](ChunkIdentity* id) { id->session = 5; }),
                "epoch 3 chunk 1 slot 3: chunk header: session is 5");
}

TEST_F(JournalReaderLiesTest, FirstChunkOfAnotherSession) {
  ExpectInvalid(ReceiveWithIdentity(0, true, [](ChunkIdentity* id) { id->session = 5; }),
                "chunk 0 slot 2: chunk header: session is 5");
}

TEST_F(JournalReaderLiesTest, ChunkOfAnotherLink) {
  ExpectInvalid(ReceiveWithIdentity(2, false, [](ChunkIdentity* id) { id->link = 1; }),
                "link is 1");
}

TEST_F(JournalReaderLiesTest, ChunkOfAnotherEpoch) {
  ExpectInvalid(ReceiveWithIdentity(2, true, [](ChunkIdentity* id) { id->epoch = 4; }),
                "epoch is 4, must be equal to 3");
}

TEST_F(JournalReaderLiesTest, FirstChunkOfACommittedEpoch) {
  ExpectInvalid(ReceiveWithIdentity(0, true, [](ChunkIdentity* id) { id->epoch = 2; }),
                "epoch is 2, must be above the last committed, 2");
}

TEST_F(JournalReaderLiesTest, ChunkOfAnotherIndex) {
  ExpectInvalid(ReceiveWithIdentity(1, false, [](ChunkIdentity* id) { id->index = 2; }),
                "index is 2, must be equal to 1");
}

TEST_F(JournalReaderLiesTest, ChunkOfAnotherKind) {
  ExpectInvalid(
      ReceiveWithIdentity(1, true, [](ChunkIdentity* id) { id->kind = EpochKind::kSync; }),
      "kind is 1");
}

TEST_F(JournalReaderLiesTest, SyncEpochAfterACheckpoint) {
  TestEpoch sync = Epoch3();
  sync.kind = EpochKind::kSync;
  sync.states.clear();
  const CommitRecord record = backup_.journal.Write(sync, kLink, 2, next());
  ExpectInvalid(Receive(record.totals.chunk_count, 3), "kind is 1, must be 2 (checkpoint)");
}

TEST_F(JournalReaderLiesTest, EmptySyncEpochAfterACheckpoint) {
  backup_.journal.Write({.epoch = 3, .base = 2, .kind = EpochKind::kSync}, kLink, 2, next());
  ExpectInvalid(Receive(0, 3), "kind is 1, must be 2 (checkpoint)");
}

TEST_F(JournalReaderLiesTest, OverlappingPages) {
  TestEpoch epoch = Epoch3();
  epoch.runs = {FilledRun(0, 20, 4, 1), FilledRun(0, 23, 4, 1)};
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(0, 3), "first frame number is 23");
}

TEST_F(JournalReaderLiesTest, PagesThatAreNotRam) {
  TestEpoch epoch = Epoch3();
  epoch.runs = {FilledRun(0, 8, 4, 1)};
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(1, 3), "frame number is 10, must be RAM of domain 0");
}

TEST_F(JournalReaderLiesTest, PagesBeyondTheGuest) {
  TestEpoch epoch = Epoch3();
  epoch.runs = {ZeroRun(1, 60, 0xffffffff)};
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(1, 3), "frame number is 63");
}

TEST_F(JournalReaderLiesTest, PagesOfADomainThatIsNotThere) {
  TestEpoch epoch = Epoch3();
  epoch.runs = {FilledRun(2, 1, 1, 1)};
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(1, 3), "domain is 2");
}

TEST_F(JournalReaderLiesTest, AStateIsMissing) {
  TestEpoch epoch = Epoch3();
  epoch.states.pop_back();
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(1, 3), "bytes of domain 1's state is 0, must be complete");
}

TEST_F(JournalReaderLiesTest, AStateIsTooLarge) {
  TestEpoch epoch = Epoch3();
  epoch.states[0].resize(65);
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(0, 3), "total is 65, must be at most 64");
}

TEST_F(JournalReaderLiesTest, AStateThatTheDomainCanNotUse) {
  TestEpoch epoch = Epoch3();
  epoch.states[0].resize(9);
  backup_.journal.Write(epoch, kLink, 2, next());
  ExpectInvalid(Receive(0, 3), "epoch 3: state of domain 0");
}

TEST_F(JournalReaderLiesTest, ImmediateForNoChunk) {
  ExpectInvalid(backup_.reader.OnImmediate(0).status(), "chunks is 0");
}

TEST_F(JournalReaderLiesTest, ImmediateRepeated) {
  backup_.journal.Write(Epoch3(), kLink, 2, next());
  ASSERT_TRUE(backup_.reader.OnImmediate(2).ok());
  ExpectInvalid(backup_.reader.OnImmediate(2).status(),
                "chunks is 2, must be above the last immediate's, 2");
}

TEST_F(JournalReaderLiesTest, ImmediateBackwards) {
  backup_.journal.Write(Epoch3(), kLink, 2, next());
  ASSERT_TRUE(backup_.reader.OnImmediate(3).ok());
  ExpectInvalid(backup_.reader.OnImmediate(1).status(), "chunks is 1");
}

TEST_F(JournalReaderLiesTest, ImmediateBeyondTheFreeSlots) {
  backup_.journal.Write(Checkpoint(3, 2, 80), kLink, 2, next());
  ExpectInvalid(backup_.reader.OnImmediate(7).status(),
                "chunks is 7, must be at most the free and granted slots, 6");
}

TEST_F(JournalReaderLiesTest, ImmediateBeyondTheGrant) {
  std::array<uint32_t, 1> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(3, extents).ok());
  ExpectInvalid(backup_.reader.OnImmediate(9).status(), "chunks is 9");
}

TEST_F(JournalReaderLiesTest, LargestImmediates) {
  ExpectInvalid(backup_.reader.OnImmediate(0x7fffffff).status(), "chunks is 2147483647");
}

TEST_F(JournalReaderLiesTest, CommitImmediateOutOfNothing) {
  ExpectInvalid(backup_.reader.OnImmediate(0xffffffff).status(), "low 31 bits");
}

TEST_F(JournalReaderLiesTest, ChunksWithAGrantButNowhere) {
  std::array<uint32_t, 2> extents{};
  ASSERT_TRUE(backup_.ledger.GrantExtents(3, extents).ok());
  const uint32_t chunks = backup_.journal.Encode(Epoch3(), kLink, 2);
  const CommitRecord record = backup_.journal.Place(next(), 1, extents);
  backup_.journal.WriteChunks(record, 0, 1);
  backup_.journal.WriteRecord(record);
  // The announced chunks might still be where the record says; they are not.
  ASSERT_TRUE(backup_.reader.OnImmediate(chunks).ok());
  ExpectDataLoss(Receive(0, 3), "epoch 3 chunk 1");
}

// The chunk is good both times, but the record speaks of the second.
TEST_F(JournalReaderLiesTest, ChunkRewrittenAfterItWasVerified) {
  backup_.journal.Write(Epoch3(), kLink, 2, next());
  ASSERT_TRUE(backup_.reader.OnImmediate(3).ok());
  TestEpoch other = Epoch3();
  other.runs[0].bytes[5] ^= std::byte{1};
  backup_.journal.Write(other, kLink, 2, next());
  ExpectInvalid(Receive(0, 3), "chunks_crc");
}

TEST_F(JournalReaderLiesTest, NothingIsBelievedBeforeALinkBegins) {
  TestBackup backup(backup_.geometry, {{.pages = 16}}, kSession);
  EXPECT_TRUE(absl::IsFailedPrecondition(backup.reader.OnImmediate(1).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(backup.reader.OnImmediate(CommitImmediate(1)).status()));
}

}  // namespace
}  // namespace haven
