// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/slot_ledger.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/replica/format_error.h"

namespace haven {

SlotLedger::SlotLedger(const JournalGeometry& geometry) : geometry_(geometry) {
  HAVEN_CHECK_OK(geometry.Validate());
  extent_use_.assign(geometry.extents(), ExtentUse::kFree);
  free_extents_.reserve(geometry.extents());
  // Taken from the end: low indices first.
  for (uint32_t extent = geometry.extents(); extent > 0; --extent) {
    free_extents_.push_back(extent - 1);
  }
}

absl::Status SlotLedger::GrantExtents(Epoch epoch, std::span<uint32_t> indices) {
  constexpr char kWhat[] = "grant of extents";
  if (indices.empty()) return FieldError(kWhat, "extents", 0, "at least 1");
  if (epoch <= last_committed_) {
    return FieldError(kWhat, "epoch", epoch, "above the last committed,", last_committed_);
  }
  if (epoch < granted_epoch_) {
    return FieldError(kWhat, "epoch", epoch, "not below the present holder's,", granted_epoch_);
  }
  const uint32_t held = epoch == granted_epoch_ ? granted_count_ : 0;
  if (indices.size() > kMaxEpochExtents - held) {
    return FieldError(kWhat, "extents", indices.size(), "at most", kMaxEpochExtents - held);
  }
  if (held + indices.size() > geometry_.extents()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("epoch ", epoch, " needs ", held + indices.size(), " extents, the pool has ",
                     geometry_.extents(), ": restart the backup with a larger journal"));
  }
  if (epoch != granted_epoch_) DropGrants();
  if (indices.size() > free_extents_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "epoch ", epoch, " asks for ", indices.size(), " extents, ", free_extents_.size(), " of ",
        geometry_.extents(), " are free: ask again when an epoch has been applied"));
  }
  granted_epoch_ = epoch;
  for (uint32_t& index : indices) {
    index = free_extents_.back();
    free_extents_.pop_back();
    extent_use_[index] = ExtentUse::kGranted;
    granted_[granted_count_++] = index;
  }
  return absl::OkStatus();
}

void SlotLedger::DropGrants() {
  while (granted_count_ > 0) Free(granted_[--granted_count_]);
  granted_epoch_ = kNoEpoch;
}

absl::Status SlotLedger::Check(Epoch epoch, const EpochPlacement& placement) const {
  constexpr char kWhat[] = "epoch placement";
  if (placement.first_position != next_) {
    return FieldError(kWhat, "first_position", placement.first_position,
                      "where the last committed epoch ends,", next_);
  }
  if (placement.ring_slots_used > free_ring_slots() && !HAVEN_MUTANT(kReuseBeforeApply)) {
    return FieldError(kWhat, "ring_slots_used", placement.ring_slots_used,
                      "at most the free slots of the ring,", free_ring_slots());
  }
  for (uint32_t i = 0; i < placement.extent_count; ++i) {
    if (!IsGranted(epoch, placement.extents[i])) {
      return FieldError(kWhat, "extent", placement.extents[i], "granted to epoch", epoch);
    }
  }
  return absl::OkStatus();
}

void SlotLedger::Commit(Epoch epoch, const EpochPlacement& placement) {
  HAVEN_CHECK(!full()) << "epoch=" << epoch;
  HAVEN_CHECK_GT(epoch, last_committed_);
  HAVEN_CHECK_OK(Check(epoch, placement));
  Unapplied& entry = unapplied_[(unapplied_first_ + unapplied_count_) % kMaxUnappliedEpochs];
  ++unapplied_count_;
  next_ += placement.ring_slots_used;
  last_committed_ = epoch;
  entry.epoch = epoch;
  entry.end = next_;
  entry.extent_count = placement.extent_count;
  entry.extents = placement.extents;
  for (uint32_t i = 0; i < entry.extent_count; ++i) {
    extent_use_[entry.extents[i]] = ExtentUse::kCommitted;
  }
  if (granted_epoch_ > epoch) return;
  while (granted_count_ > 0) {
    const uint32_t extent = granted_[--granted_count_];
    if (extent_use_[extent] == ExtentUse::kGranted) Free(extent);
  }
  granted_epoch_ = kNoEpoch;
}

void SlotLedger::Release(Epoch epoch) {
  HAVEN_CHECK_GT(unapplied_count_, 0u) << "epoch=" << epoch;
  const Unapplied& oldest = unapplied_[unapplied_first_];
  HAVEN_CHECK_EQ(oldest.epoch, epoch);
  tail_ = oldest.end;
  for (uint32_t i = oldest.extent_count; i > 0; --i) Free(oldest.extents[i - 1]);
  unapplied_first_ = (unapplied_first_ + 1) % kMaxUnappliedEpochs;
  --unapplied_count_;
}

void SlotLedger::Free(uint32_t extent) {
  HAVEN_CHECK(extent_use_[extent] != ExtentUse::kFree) << "extent=" << extent;
  extent_use_[extent] = ExtentUse::kFree;
  free_extents_.push_back(extent);
}

bool SlotLedger::IsGranted(Epoch epoch, uint32_t extent) const {
  return epoch == granted_epoch_ && extent < extent_use_.size() &&
         extent_use_[extent] == ExtentUse::kGranted;
}

}  // namespace haven
