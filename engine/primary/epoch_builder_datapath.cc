// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/primary/copy_datapath.h"
#include "engine/primary/epoch_builder.h"
#include "engine/primary/page_encoder.h"

namespace haven {

FetchResult EpochBuilder::Fetch(Log log) {
  FetchResult result;
  const int64_t begin_ns = clock_.NowNs();
  for (size_t i = 0; i < domains_.size(); ++i) {
    const std::span<uint64_t> pending = sets_.Pending(i);
    absl::Status status = log == Log::kKeep ? domains_[i]->FetchDirty(pending)
                                            : domains_[i]->FetchAndClearDirty(pending);
    if (absl::IsAborted(status)) {
      sets_.MarkAll(i);
      result.lost_log = true;
      result.lost_cause = std::move(status);
    } else if (!status.ok()) {
      result.status = std::move(status);
      break;
    }
  }
  result.bitmap_ns = clock_.NowNs() - begin_ns;
  return result;
}

CaptureResult EpochBuilder::Capture(EpochKind kind, uint64_t slot_limit) {
  CaptureResult result;
  stage_ = Stage::kEmpty;
  kind_ = kind;
  const uint64_t limit = std::min<uint64_t>(slot_limit, max_slots());

  const int64_t begin_ns = clock_.NowNs();
  if (kind == EpochKind::kSync) {
    plan_.PlanSync(sets_, limit);
  } else if (plan_.PlanCheckpoint(sets_, limit) == EpochPlan::Outcome::kTooLarge) {
    result.outcome = CaptureResult::Outcome::kTooLarge;
    result.slots = plan_.needed_slots();
    result.plan_ns = clock_.NowNs() - begin_ns;
    return result;
  }
  const int64_t planned_ns = clock_.NowNs();
  result.plan_ns = planned_ns - begin_ns;

  CopyPages(plan_, sets_, staging_, pool_);
  const int64_t copied_ns = clock_.NowNs();
  result.copy_ns = copied_ns - planned_ns;

  if (kind == EpochKind::kCheckpoint) {
    result.status = CaptureStates();
    result.state_ns = clock_.NowNs() - copied_ns;
    if (!result.status.ok()) {
      sets_.RestoreInflight();
      result.outcome = absl::IsFailedPrecondition(result.status)
                           ? CaptureResult::Outcome::kGuestRuns
                           : CaptureResult::Outcome::kFailed;
      return result;
    }
    for (const uint32_t bytes : state_bytes_) result.state_bytes += bytes;
  }
  result.slots = plan_.slots().size();
  result.pages = plan_.pages();
  stage_ = Stage::kCaptured;
  return result;
}

absl::Status EpochBuilder::CaptureStates() {
  for (size_t i = 0; i < domains_.size(); ++i) {
    const absl::StatusOr<size_t> bytes = domains_[i]->CaptureState(state_room_[i]);
    if (!bytes.ok()) return bytes.status();
    if (*bytes == 0 || *bytes > state_room_[i].size()) {
      return absl::InternalError(absl::StrCat("guest ", domains_[i]->info().name, ": state of ",
                                              *bytes, " bytes; it has at least 1 and at most ",
                                              state_room_[i].size(), " bytes"));
    }
    states_[i] = std::span<const std::byte>(state_room_[i]).first(*bytes);
    state_bytes_[i] = static_cast<uint32_t>(*bytes);
  }
  plan_.AddStates(state_bytes_);
  return absl::OkStatus();
}

EncodeResult EpochBuilder::Encode(const ChunkIdentity& identity) {
  HAVEN_CHECK_EQ(stage_, Stage::kCaptured) << "epoch=" << identity.epoch;
  const int64_t begin_ns = clock_.NowNs();
  ChunkIdentity own = identity;
  own.kind = kind_;
  image_slots_.clear();
  const bool coded = codec_ != nullptr && codec_->Choose(plan_);
  if (coded) {
    EncodeCoded(own);
  } else {
    EncodePlain(own);
  }
  if (seal_ != nullptr) {
    seal_->Seal(
        own.epoch, chunks_, [this](uint32_t i) { return Chunk(i); }, pool_);
  }
  stage_ = Stage::kEncoded;
  EncodeResult result = Sum();
  result.coded = coded;
  result.encode_ns = clock_.NowNs() - begin_ns;
  if (codec_ != nullptr) codec_->NoteEncoded(plan_.pages(), result.wire_bytes, result.encode_ns);
  return result;
}

void EpochBuilder::EncodePlain(const ChunkIdentity& identity) {
  const std::span<const PlannedSlot> slots = plan_.slots();
  chunks_.resize(slots.size());
  pool_.Run(static_cast<uint32_t>(slots.size()), [&](uint32_t i) {
    ChunkIdentity own = identity;
    own.index = i;
    const EncodedSlot encoded = EncodeSlot(Slot(i),
                                           {.runs = plan_.SlotRuns(slots[i]),
                                            .fragments = plan_.SlotFragments(slots[i]),
                                            .states = states_},
                                           own);
    chunks_[i] = encoded.totals;
    slot_zero_pages_[i] = encoded.zero_pages;
  });
  zero_pages_ =
      std::accumulate(slot_zero_pages_.begin(),
                      slot_zero_pages_.begin() + static_cast<ptrdiff_t>(slots.size()), uint64_t{0});
}

void EpochBuilder::EncodeCoded(const ChunkIdentity& identity) {
  const CodecStage::Image& image = codec_->Encode(plan_, staging_, states_, identity, pool_);
  chunks_.assign(image.chunks.begin(), image.chunks.end());
  image_slots_.assign(image.slots.begin(), image.slots.end());
  zero_pages_ = image.zero_pages;
}

std::span<std::byte> EpochBuilder::Slot(uint32_t slot) const {
  return staging_.subspan(size_t{slot} * slot_bytes(), slot_bytes());
}

std::span<std::byte> EpochBuilder::Chunk(uint32_t index) const {
  return image_slots_.empty() ? Slot(index) : codec_->Slot(image_slots_[index]);
}

EncodeResult EpochBuilder::Sum() const {
  EncodeResult result;
  for (const ChunkTotals& chunk : chunks_) result.totals.Add(chunk);
  result.zero_pages = zero_pages_;
  result.wire_bytes = result.totals.payload_bytes + chunks_.size() * kChunkHeaderBytes;
  return result;
}

}  // namespace haven
