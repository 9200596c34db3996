// SPDX-License-Identifier: Apache-2.0
//
// Both halves of a journal for tests and benchmarks of the backup.
#ifndef HAVEN_ENGINE_BACKUP_JOURNAL_READER_TEST_UTIL_H_
#define HAVEN_ENGINE_BACKUP_JOURNAL_READER_TEST_UTIL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/backup/journal_reader.h"
#include "engine/backup/memory_replica.h"
#include "engine/backup/slot_ledger.h"
#include "engine/backup/state_store.h"
#include "engine/replica/chunk.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/identity.h"
#include "engine/replica/immediate.h"
#include "engine/replica/layout.h"

namespace haven {

// One run of pages of an epoch, or one frame of coded pages.
struct TestRun {
  uint16_t domain = 0;
  Gfn first = 0;
  uint32_t pages = 0;
  bool zero = false;                  // A zero run; `bytes` is then empty.
  std::vector<std::byte> bytes = {};  // pages * kPageBytes.
  std::vector<std::byte> coded = {};  // Not empty: the frame's body, in place of `bytes`.
};

// A run of `pages` raw pages, page i filled with the byte fill + i.
TestRun FilledRun(uint16_t domain, Gfn first, uint32_t pages, uint8_t fill);
TestRun ZeroRun(uint16_t domain, Gfn first, uint32_t pages);

// Of the sessions in which sealing was agreed on.
inline constexpr SealKey kTestSealKey = {std::byte{1}, std::byte{2}, std::byte{3}};

// An epoch as it was captured.
struct TestEpoch {
  Epoch epoch = kNoEpoch;
  Epoch base = kNoEpoch;
  EpochKind kind = EpochKind::kCheckpoint;
  std::vector<TestRun> runs = {};                   // In the order that the format wants.
  std::vector<std::vector<std::byte>> states = {};  // One a domain for a checkpoint.
};

// Encodes epochs and writes them where an honest primary would; a test then changes what it likes.
class TestJournal {
 public:
  // `region` is the backup's journal region. `sealed`: with kTestSealKey.
  TestJournal(std::span<std::byte> region, const JournalGeometry& geometry, SessionId session,
              bool sealed = false);

  // Encodes the chunks of an epoch for `link` and keeps them. Returns their number.
  uint32_t Encode(const TestEpoch& epoch, LinkNumber link, uint16_t domain_count);

  // The record for the encoded epoch, from `first` on with at most `ring_slots` slots of the ring,
  // then in `extents` (as many of them as are needed).
  CommitRecord Place(RingPosition first, uint32_t ring_slots,
                     std::span<const uint32_t> extents = {}) const;

  // Copies the encoded chunks [from, to) to their slots.
  void WriteChunks(const CommitRecord& record, uint32_t from, uint32_t to);

  // Copies the record to its commit slot.
  void WriteRecord(const CommitRecord& record);

  // All of an epoch: chunks and record.
  CommitRecord Write(const TestEpoch& epoch, LinkNumber link, uint16_t domain_count,
                     RingPosition first);

  // The slot that holds a chunk.
  std::span<std::byte> ChunkSlot(const CommitRecord& record, uint32_t index);
  std::span<std::byte> Slot(uint32_t slot);

  // Gives the chunk in `slot` another identity; its header's CRC fits again.
  static void Rename(std::span<std::byte> slot, const ChunkIdentity& identity);
  static ChunkIdentity Identity(std::span<const std::byte> slot);

  static uint32_t ChunksImmediate(uint32_t chunks) { return chunks; }

 private:
  std::span<std::byte> region_;
  JournalGeometry geometry_;
  SessionId session_;
  std::unique_ptr<ChunkSealer> sealer_;  // Null: not sealed.
  std::vector<std::vector<std::byte>> chunks_;
  CommitRecord record_;
};

// A backup's side of a session in ordinary memory, without an applier.
struct TestBackup {
  TestBackup(const JournalGeometry& journal_geometry,
             const std::vector<MemoryReplica::Options>& domains, SessionId session,
             Epoch base_epoch = kNoEpoch, uint64_t features = 0);

  std::vector<ReplicaDomain*> domains() const;
  uint16_t domain_count() const { return static_cast<uint16_t>(replicas.size()); }

  JournalGeometry geometry;
  std::vector<std::byte> region;
  std::vector<std::unique_ptr<MemoryReplica>> replicas;
  SlotLedger ledger;
  StateStore states;
  JournalReader reader;
  TestJournal journal;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_JOURNAL_READER_TEST_UTIL_H_
