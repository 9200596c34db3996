// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/journal_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/replica/control_block.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"

namespace haven {
namespace {

std::unique_ptr<CodedEpochCheck> MakeCodedCheck(const JournalReader::Options& options) {
  if ((options.features & kCodecFeatures) == 0) return nullptr;
  std::vector<const GuestMemory*> memories;
  for (const ReplicaDomain* replica : options.replicas) memories.push_back(&replica->memory());
  return std::make_unique<CodedEpochCheck>(memories, options.features);
}

std::unique_ptr<ChunkOpener> MakeOpener(const JournalReader::Options& options) {
  HAVEN_CHECK_EQ(options.seal_key.has_value(), IsSealed(options.features));
  if (!options.seal_key.has_value()) return nullptr;
  absl::StatusOr<std::unique_ptr<ChunkOpener>> opener =
      ChunkOpener::Create(*options.seal_key, options.geometry.slot_bytes);
  HAVEN_CHECK_OK(opener.status());
  return *std::move(opener);
}

EpochValidator MakeValidator(const JournalReader::Options& options, CodedEpochCheck* coded,
                             ChunkOpener* opener) {
  HAVEN_CHECK(options.states != nullptr);
  HAVEN_CHECK_EQ(options.replicas.size(), options.states->domain_count());
  std::array<EpochTarget, kMaxDomains> targets;
  for (uint16_t domain = 0; domain < options.states->domain_count(); ++domain) {
    HAVEN_CHECK(options.replicas[domain] != nullptr) << "domain=" << domain;
    targets[domain] = {.memory = &options.replicas[domain]->memory(),
                       .max_state_bytes = options.states->max_state_bytes(domain)};
  }
  return EpochValidator(std::span(targets).first(options.states->domain_count()), coded, opener);
}

}  // namespace

JournalReader::JournalReader(Options options)
    : region_(options.region),
      geometry_(options.geometry),
      session_(options.session),
      replicas_(options.replicas),
      ledger_(options.ledger),
      states_(options.states),
      coded_(MakeCodedCheck(options)),
      opener_(MakeOpener(options)),
      validator_(MakeValidator(options, coded_.get(), opener_.get())),
      committed_epoch_(options.base_epoch) {
  HAVEN_CHECK_OK(geometry_.Validate());
  HAVEN_CHECK_GE(region_.size(), geometry_.total_bytes());
  HAVEN_CHECK_NE(session_, kNoSession);
  HAVEN_CHECK(ledger_ != nullptr);
  HAVEN_CHECK(ledger_->geometry() == geometry_);
  chunk_slots_.assign(geometry_.slots(), 0);
  slot_crcs_.assign(geometry_.slots(), 0);
}

void JournalReader::BeginLink(LinkNumber link) {
  HAVEN_CHECK_GT(link, link_);
  link_ = link;
  link_state_ = LinkState::kGood;
  ledger_->DropGrants();
  ForgetEpoch();
}

absl::StatusOr<VerifiedEpoch> JournalReader::TryFinal() {
  HAVEN_CHECK(!ledger_->full());
  if (link_state_ == LinkState::kNone) {
    return InLink(absl::FailedPreconditionError("no link has begun, so nothing was received"));
  }
  std::array<CommitRecord, kCommitSlots> records;
  std::array<absl::Status, kCommitSlots> found;
  const CommitRecord* newest = nullptr;
  for (uint64_t slot = 0; slot < kCommitSlots; ++slot) {
    found[slot] = DecodeSlot(slot, &records[slot]);
    if (found[slot].ok()) found[slot] = CheckNames(records[slot]);
    if (!found[slot].ok()) continue;
    if (newest == nullptr || records[slot].epoch > newest->epoch) newest = &records[slot];
  }
  if (newest == nullptr) {
    return InLink(absl::NotFoundError(
        absl::StrCat("no commit record follows epoch ", committed_epoch_,
                     ". Slot 0: ", found[0].message(), ". Slot 1: ", found[1].message())));
  }
  if (newest->kind != EpochKind::kCheckpoint) {
    return InLink(absl::FailedPreconditionError(
        absl::StrCat("epoch ", newest->epoch, " is no checkpoint: not committed")));
  }
  // What was verified of this epoch as it arrived needs no second look, unless that went wrong.
  if (link_state_ == LinkState::kFailed || running_epoch_ != newest->epoch) ForgetEpoch();
  absl::StatusOr<VerifiedEpoch> committed = OnRecord(*newest);
  if (!committed.ok()) {
    link_state_ = LinkState::kFailed;
    return InLink(committed.status());
  }
  return committed;
}

// The peer may be writing the slot: DecodeCommitRecord() copies it before it looks.
absl::Status JournalReader::DecodeSlot(uint64_t commit_index, CommitRecord* record) const {
  const std::span<const std::byte> slot =
      region_.subspan(CommitSlotOffset(commit_index), kCommitSlotBytes);
  if (opener_ == nullptr) return DecodeCommitRecord(slot, geometry_, record);
  std::array<std::byte, kSealedRecordBytes> copy;
  std::copy_n(slot.begin(), copy.size(), copy.begin());
  const std::span<const std::byte> sealed = copy;
  HAVEN_RETURN_IF_ERROR(DecodeCommitRecord(sealed, geometry_, record));
  SealTag tag;
  std::ranges::copy(sealed.last<kSealTagBytes>(), tag.begin());
  return opener_->CheckRecord(record->epoch, sealed.first<kCommitRecordBytes>(), tag);
}

absl::Status JournalReader::CheckNames(const CommitRecord& record) const {
  constexpr char kWhat[] = "commit record";
  if (record.session != session_) {
    return FieldError(kWhat, "session", record.session, "equal to", session_);
  }
  if (record.link != link_) return FieldError(kWhat, "link", record.link, "equal to", link_);
  if (record.epoch <= committed_epoch_) {
    return FieldError(kWhat, "epoch", record.epoch, "above the last committed,", committed_epoch_);
  }
  if (record.base_epoch != committed_epoch_) {
    return FieldError(kWhat, "base_epoch", record.base_epoch, "the last committed,",
                      committed_epoch_);
  }
  return absl::OkStatus();
}

// The record has the last word on where the chunks lie, but it can not move those already verified.
absl::Status JournalReader::CheckSlots(const CommitRecord& record) const {
  constexpr char kWhat[] = "commit record";
  HAVEN_RETURN_IF_ERROR(ledger_->Check(record.epoch, record.placement));
  if (record.totals.chunk_count < announced_) {
    return FieldError(kWhat, "chunk_count", record.totals.chunk_count,
                      "at least the chunks announced,", announced_);
  }
  for (uint32_t index = 0; index < verified_; ++index) {
    const uint32_t slot = record.placement.ChunkSlot(geometry_, index);
    if (slot != chunk_slots_[index]) {
      return FieldError(kWhat, absl::StrCat("slot of chunk ", index), slot,
                        "where the chunk was found,", chunk_slots_[index]);
    }
  }
  return absl::OkStatus();
}

absl::Status JournalReader::CheckStates(const CommitRecord& record) const {
  if (record.kind != EpochKind::kCheckpoint) return absl::OkStatus();
  for (uint16_t domain = 0; domain < states_->domain_count(); ++domain) {
    const absl::Status checked = replicas_[domain]->CheckState(
        states_->spare()[domain].first(validator_.state_bytes(domain)));
    if (!checked.ok()) {
      return absl::Status(checked.code(), absl::StrCat("epoch ", record.epoch, ": state of domain ",
                                                       domain, ": ", checked.message()));
    }
  }
  return absl::OkStatus();
}

// Why the slot does not hold the chunk that must be there.
absl::Status JournalReader::ChunkMissing(uint32_t slot, uint32_t index) const {
  const std::string where =
      absl::StrCat("epoch ", running_epoch_, " chunk ", index, " slot ", slot);
  constexpr char kWhat[] = "chunk header";
  ChunkHeader header;
  uint32_t chunk_crc = 0;
  const absl::Status decoded = DecodeChunkHeader(Slot(slot), &header, &chunk_crc);
  if (absl::IsNotFound(decoded)) return absl::DataLossError(absl::StrCat(where, ": never written"));
  if (!decoded.ok()) return At(where, decoded);
  const ChunkIdentity& identity = header.identity;
  if (identity.session != session_) {
    return At(where, FieldError(kWhat, "session", identity.session, "equal to", session_));
  }
  if (identity.link != link_) {
    return At(where, FieldError(kWhat, "link", identity.link, "equal to", link_));
  }
  if (running_epoch_ == kNoEpoch && identity.epoch <= committed_epoch_) {
    return At(where, FieldError(kWhat, "epoch", identity.epoch, "above the last committed,",
                                committed_epoch_));
  }
  if (running_epoch_ != kNoEpoch && identity.epoch != running_epoch_) {
    return At(where, FieldError(kWhat, "epoch", identity.epoch, "equal to", running_epoch_));
  }
  if (identity.index != index) {
    return At(where, FieldError(kWhat, "index", identity.index, "equal to", index));
  }
  return absl::DataLossError(absl::StrCat(where, ": the header changed while it was read"));
}

absl::Status JournalReader::InLink(const absl::Status& cause) const {
  return At(absl::StrFormat("session %016x link %u", session_, link_), cause);
}

}  // namespace haven
