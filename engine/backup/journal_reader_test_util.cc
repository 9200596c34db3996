// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/journal_reader_test_util.h"

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"
#include "engine/replica/chunk_writer.h"
#include "engine/replica/control_block.h"
#include "engine/replica/features.h"

namespace haven {
namespace {

// Starts a new chunk whenever the last one is full.
class ChunkSequence {
 public:
  ChunkSequence(uint32_t slot_bytes, const ChunkIdentity& identity,
                std::vector<std::vector<std::byte>>* chunks, EpochTotals* totals)
      : slot_bytes_(slot_bytes), identity_(identity), chunks_(chunks), totals_(totals) {}

  void Add(const TestRun& run) {
    uint32_t done = 0;
    while (!run.coded.empty()) {
      const uint32_t first = static_cast<uint32_t>(run.first);
      if (writer_.AppendCoded(run.domain, first, run.pages, run.coded)) return;
      NextChunk();
    }
    while (run.zero && done < run.pages) {
      if (writer_.AppendZeroRun(run.domain, run.first, run.pages)) return;
      NextChunk();
    }
    while (done < run.pages) {
      const uint32_t count = std::min(writer_.raw_pages_left(), run.pages - done);
      if (count == 0) {
        NextChunk();
        continue;
      }
      const std::span<std::byte> room = writer_.AppendRawRun(run.domain, run.first + done, count);
      std::memcpy(room.data(), run.bytes.data() + done * kPageBytes, room.size());
      done += count;
    }
  }

  void AddState(uint16_t domain, std::span<const std::byte> state) {
    size_t done = 0;
    while (done < state.size()) {
      const size_t count = std::min<size_t>(writer_.state_bytes_left(), state.size() - done);
      if (count == 0 ||
          !writer_.AppendState(domain, static_cast<uint32_t>(done),
                               static_cast<uint32_t>(state.size()), state.subspan(done, count))) {
        NextChunk();
        continue;
      }
      done += count;
    }
  }

  void Finish() {
    if (writer_.empty()) return;
    totals_->Add(writer_.Finish(identity_));
    ++identity_.index;
  }

 private:
  void NextChunk() {
    Finish();
    chunks_->emplace_back(slot_bytes_);
    writer_.Reset(chunks_->back());
  }

  uint32_t slot_bytes_;
  ChunkIdentity identity_;
  std::vector<std::vector<std::byte>>* chunks_;
  EpochTotals* totals_;
  ChunkWriter writer_;
};

std::vector<std::unique_ptr<MemoryReplica>> MakeReplicas(
    const std::vector<MemoryReplica::Options>& domains) {
  std::vector<std::unique_ptr<MemoryReplica>> replicas;
  for (const MemoryReplica::Options& domain : domains) {
    absl::StatusOr<std::unique_ptr<MemoryReplica>> replica = MemoryReplica::Create(domain);
    HAVEN_CHECK_OK(replica);
    replicas.push_back(*std::move(replica));
  }
  return replicas;
}

std::vector<uint32_t> MaxStateBytes(const std::vector<MemoryReplica::Options>& domains) {
  std::vector<uint32_t> bytes;
  for (const MemoryReplica::Options& domain : domains) bytes.push_back(domain.max_state_bytes);
  return bytes;
}

}  // namespace

TestRun FilledRun(uint16_t domain, Gfn first, uint32_t pages, uint8_t fill) {
  TestRun run{.domain = domain, .first = first, .pages = pages};
  for (uint32_t page = 0; page < pages; ++page) {
    run.bytes.insert(run.bytes.end(), kPageBytes, static_cast<std::byte>(fill + page));
  }
  return run;
}

TestRun ZeroRun(uint16_t domain, Gfn first, uint32_t pages) {
  return {.domain = domain, .first = first, .pages = pages, .zero = true};
}

TestJournal::TestJournal(std::span<std::byte> region, const JournalGeometry& geometry,
                         SessionId session, bool sealed)
    : region_(region), geometry_(geometry), session_(session) {
  if (sealed) sealer_ = *ChunkSealer::Create(kTestSealKey);
}

uint32_t TestJournal::Encode(const TestEpoch& epoch, LinkNumber link, uint16_t domain_count) {
  chunks_.clear();
  record_ = {.session = session_,
             .link = link,
             .kind = epoch.kind,
             .epoch = epoch.epoch,
             .base_epoch = epoch.base,
             .domain_count = domain_count,
             .placement = {},
             .totals = {}};
  const ChunkIdentity identity{
      .session = session_, .link = link, .epoch = epoch.epoch, .kind = epoch.kind, .index = 0};
  ChunkSequence sequence(geometry_.slot_bytes, identity, &chunks_, &record_.totals);
  for (const TestRun& run : epoch.runs) sequence.Add(run);
  for (size_t domain = 0; domain < epoch.states.size(); ++domain) {
    sequence.AddState(static_cast<uint16_t>(domain), epoch.states[domain]);
  }
  sequence.Finish();
  if (sealer_ != nullptr) {
    EpochTotals sealed;
    for (std::vector<std::byte>& chunk : chunks_) sealed.Add({.chunk_crc = sealer_->Seal(chunk)});
    record_.totals.chunks_crc = sealed.chunks_crc;
  }
  return record_.totals.chunk_count;
}

CommitRecord TestJournal::Place(RingPosition first, uint32_t ring_slots,
                                std::span<const uint32_t> extents) const {
  CommitRecord record = record_;
  record.placement.first_position = first;
  record.placement.ring_slots_used = std::min(ring_slots, record.totals.chunk_count);
  const uint32_t beyond = record.totals.chunk_count - record.placement.ring_slots_used;
  record.placement.extent_count = (beyond + geometry_.extent_slots - 1) / geometry_.extent_slots;
  HAVEN_CHECK_LE(record.placement.extent_count, extents.size());
  std::copy_n(extents.begin(), record.placement.extent_count, record.placement.extents.begin());
  return record;
}

void TestJournal::WriteChunks(const CommitRecord& record, uint32_t from, uint32_t to) {
  for (uint32_t index = from; index < to; ++index) {
    const std::span<std::byte> slot = ChunkSlot(record, index);
    std::copy(chunks_[index].begin(), chunks_[index].end(), slot.begin());
  }
}

void TestJournal::WriteRecord(const CommitRecord& record) {
  const std::span<std::byte> slot =
      region_.subspan(CommitSlotOffset(record.epoch), kCommitSlotBytes);
  EncodeCommitRecord(record, slot.first<kCommitRecordBytes>());
  if (sealer_ == nullptr) return;
  std::ranges::copy(sealer_->SealRecord(record.epoch, slot.first(kCommitRecordBytes)),
                    slot.begin() + kCommitRecordBytes);
}

CommitRecord TestJournal::Write(const TestEpoch& epoch, LinkNumber link, uint16_t domain_count,
                                RingPosition first) {
  const uint32_t chunks = Encode(epoch, link, domain_count);
  const CommitRecord record = Place(first, chunks);
  WriteChunks(record, 0, chunks);
  WriteRecord(record);
  return record;
}

std::span<std::byte> TestJournal::ChunkSlot(const CommitRecord& record, uint32_t index) {
  return Slot(record.placement.ChunkSlot(geometry_, index));
}

std::span<std::byte> TestJournal::Slot(uint32_t slot) {
  return region_.subspan(geometry_.SlotOffset(slot), geometry_.slot_bytes);
}

void TestJournal::Rename(std::span<std::byte> slot, const ChunkIdentity& identity) {
  ChunkHeader header;
  uint32_t crc = 0;
  HAVEN_CHECK_OK(DecodeChunkHeader(slot, &header, &crc));
  header.identity = identity;
  EncodeChunkHeader(header, slot.first<kChunkHeaderBytes>());
}

ChunkIdentity TestJournal::Identity(std::span<const std::byte> slot) {
  ChunkHeader header;
  uint32_t crc = 0;
  HAVEN_CHECK_OK(DecodeChunkHeader(slot, &header, &crc));
  return header.identity;
}

TestBackup::TestBackup(const JournalGeometry& journal_geometry,
                       const std::vector<MemoryReplica::Options>& domains, SessionId session,
                       Epoch base_epoch, uint64_t features)
    : geometry(journal_geometry),
      region(static_cast<size_t>(geometry.total_bytes())),
      replicas(MakeReplicas(domains)),
      ledger(geometry),
      states(MaxStateBytes(domains)),
      reader({.region = region,
              .geometry = geometry,
              .session = session,
              .base_epoch = base_epoch,
              .replicas = this->domains(),
              .ledger = &ledger,
              .states = &states,
              .features = features,
              .seal_key = IsSealed(features) ? std::optional(kTestSealKey) : std::nullopt}),
      journal(region, geometry, session, IsSealed(features)) {}

std::vector<ReplicaDomain*> TestBackup::domains() const {
  std::vector<ReplicaDomain*> pointers;
  for (const std::unique_ptr<MemoryReplica>& replica : replicas) pointers.push_back(replica.get());
  return pointers;
}

}  // namespace haven
