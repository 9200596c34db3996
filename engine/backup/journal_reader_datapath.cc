// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <span>

#include "engine/backup/journal_reader.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/replica/format_error.h"
#include "engine/replica/immediate.h"

namespace haven {
namespace {

constexpr uint32_t kEpochMask = ~kCommitImmediateBit;

}  // namespace

absl::StatusOr<std::optional<VerifiedEpoch>> JournalReader::OnImmediate(uint32_t immediate) {
  if (link_state_ != LinkState::kGood) {
    return InLink(absl::FailedPreconditionError(
        link_state_ == LinkState::kNone ? "no link has begun" : "the link has failed already"));
  }
  absl::Status status;
  if (!IsCommitImmediate(immediate)) {
    status = OnChunks(immediate);
    if (status.ok()) return std::optional<VerifiedEpoch>();
  } else {
    HAVEN_CHECK(!ledger_->full());
    CommitRecord record;
    status = ReadRecord(immediate, &record);
    if (status.ok()) {
      absl::StatusOr<VerifiedEpoch> committed = OnRecord(record);
      if (committed.ok()) return std::optional<VerifiedEpoch>(*committed);
      status = committed.status();
    }
  }
  link_state_ = LinkState::kFailed;
  return InLink(status);
}

absl::Status JournalReader::OnChunks(uint32_t announced) {
  constexpr char kWhat[] = "immediate";
  if (announced <= announced_) {
    return FieldError(kWhat, "chunks", announced, "above the last immediate's,", announced_);
  }
  const bool granted = ledger_->granted_epoch() != kNoEpoch;
  const uint64_t room =
      ledger_->free_ring_slots() + ledger_->granted().size() * uint64_t{geometry_.extent_slots};
  if (announced > room) {
    return FieldError(kWhat, "chunks", announced, "at most the free and granted slots,", room);
  }
  announced_ = announced;
  Candidate candidate;
  while (verified_ < announced_) {
    if (!FindChunk(verified_, &candidate)) {
      // With a grant it is the primary's choice where the ring's part ends: the record will tell.
      if (granted) return absl::OkStatus();
      return ChunkMissing(geometry_.RingSlot(ledger_->next() + verified_), verified_);
    }
    if (running_epoch_ == kNoEpoch) {
      HAVEN_RETURN_IF_ERROR(
          BeginEpoch(candidate.header.identity.epoch, candidate.header.identity.kind));
    }
    HAVEN_RETURN_IF_ERROR(VerifyChunk(candidate, verified_));
  }
  return absl::OkStatus();
}

// An epoch's number is never used twice, so a header with the right names is no leftover.
bool JournalReader::HoldsChunk(uint32_t slot, uint32_t index, Candidate* found) const {
  found->slot = slot;
  if (!DecodeChunkHeader(Slot(slot), &found->header, &found->chunk_crc).ok()) return false;
  const ChunkIdentity& identity = found->header.identity;
  const bool right_epoch = running_epoch_ == kNoEpoch ? identity.epoch > committed_epoch_
                                                      : identity.epoch == running_epoch_;
  return right_epoch && identity.session == session_ && identity.link == link_ &&
         identity.index == index;
}

// Looks where the chunk must be if the record is going to say what it most likely will.
bool JournalReader::FindChunk(uint32_t index, Candidate* found) {
  if (!extents_from_.has_value()) {
    if (index < ledger_->free_ring_slots() &&
        HoldsChunk(geometry_.RingSlot(ledger_->next() + index), index, found)) {
      return true;
    }
  }
  const uint32_t beyond = index - extents_from_.value_or(index);
  const uint32_t which = beyond / geometry_.extent_slots;
  if (which >= ledger_->granted().size()) return false;
  const uint32_t slot =
      geometry_.ExtentSlot(ledger_->granted()[which]) + beyond % geometry_.extent_slots;
  if (!HoldsChunk(slot, index, found)) return false;
  if (!extents_from_.has_value()) extents_from_ = index;
  return true;
}

absl::Status JournalReader::BeginEpoch(Epoch epoch, EpochKind kind) {
  if (has_checkpoint_ && kind != EpochKind::kCheckpoint) {
    return FieldError("epoch", "kind", static_cast<uint16_t>(kind),
                      "2 (checkpoint), as one is committed already, not that of epoch", epoch);
  }
  running_epoch_ = epoch;
  validator_.Begin(session_, link_, epoch, kind, states_->spare());
  return absl::OkStatus();
}

// The candidate's header was read before the validator reads it again. If both saw the same chunk
// CRC, it is the CRC of what was verified.
absl::Status JournalReader::VerifyChunk(const Candidate& candidate, uint32_t index) {
  EpochTotals expected = validator_.totals();
  expected.Add(
      {.payload_bytes = 0, .frame_count = 0, .page_count = 0, .chunk_crc = candidate.chunk_crc});
  HAVEN_RETURN_IF_ERROR(validator_.AddChunk(Slot(candidate.slot), index));
  if (validator_.totals().chunks_crc != expected.chunks_crc) {
    return ChunkMissing(candidate.slot, index);
  }
  slot_crcs_[candidate.slot] = candidate.chunk_crc;
  chunk_slots_[index] = candidate.slot;
  verified_ = index + 1;
  return absl::OkStatus();
}

absl::Status JournalReader::ReadRecord(uint32_t immediate, CommitRecord* record) const {
  const uint32_t epoch_bits = immediate & kEpochMask;
  const absl::Status decoded = DecodeSlot(epoch_bits, record);
  if (absl::IsNotFound(decoded)) return absl::DataLossError(decoded.message());
  HAVEN_RETURN_IF_ERROR(decoded);
  if ((record->epoch & kEpochMask) != epoch_bits) {
    return FieldError("commit record", "epoch", record->epoch,
                      "one whose low 31 bits are the immediate's,", epoch_bits);
  }
  return CheckNames(*record);
}

absl::StatusOr<VerifiedEpoch> JournalReader::OnRecord(const CommitRecord& record) {
  if (running_epoch_ == kNoEpoch) HAVEN_RETURN_IF_ERROR(BeginEpoch(record.epoch, record.kind));
  HAVEN_RETURN_IF_ERROR(CheckSlots(record));
  HAVEN_RETURN_IF_ERROR(VerifyRest(record));
  HAVEN_RETURN_IF_ERROR(validator_.Finish(record));
  HAVEN_RETURN_IF_ERROR(CheckStates(record));
  return Commit(record);
}

absl::Status JournalReader::VerifyRest(const CommitRecord& record) {
  Candidate candidate;
  for (uint32_t index = verified_; index < record.totals.chunk_count; ++index) {
    const uint32_t slot = record.placement.ChunkSlot(geometry_, index);
    if (!HoldsChunk(slot, index, &candidate)) return ChunkMissing(slot, index);
    HAVEN_RETURN_IF_ERROR(VerifyChunk(candidate, index));
  }
  return absl::OkStatus();
}

// Nothing can fail from here on.
VerifiedEpoch JournalReader::Commit(const CommitRecord& record) {
  ledger_->Commit(record.epoch, record.placement);
  if (record.kind == EpochKind::kCheckpoint) {
    std::array<uint32_t, kMaxDomains> state_bytes;
    const uint16_t domains = states_->domain_count();
    for (uint16_t domain = 0; domain < domains; ++domain) {
      state_bytes[domain] = validator_.state_bytes(domain);
    }
    states_->Commit(record.epoch, std::span(state_bytes).first(domains));
    has_checkpoint_ = true;
  }
  committed_epoch_ = record.epoch;
  ForgetEpoch();
  return {.record = record, .slot_crcs = slot_crcs_};
}

void JournalReader::ForgetEpoch() {
  running_epoch_ = kNoEpoch;
  announced_ = 0;
  verified_ = 0;
  extents_from_.reset();
}

}  // namespace haven
