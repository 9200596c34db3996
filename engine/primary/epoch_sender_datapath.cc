// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/primary/epoch_sender.h"
#include "engine/replica/immediate.h"

namespace haven {
namespace {

// Number of the commit record's request within its epoch; data requests never get that far.
constexpr uint32_t kCommitRequest = UINT32_MAX;

}  // namespace

void EpochSender::Start(const SendSpec& spec) {
  HAVEN_CHECK(state_ == SendState::kIdle || state_ == SendState::kCompleted ||
              state_ == SendState::kPosted)
      << "epoch=" << spec.epoch << " state=" << static_cast<int>(state_);
  HAVEN_CHECK_GT(spec.epoch, spec_.epoch);
  HAVEN_CHECK_EQ(spec.chunks.size(), spec.totals.chunk_count) << "epoch=" << spec.epoch;
  HAVEN_CHECK(spec.image_slots.empty() || spec.image_slots.size() == spec.chunks.size())
      << "epoch=" << spec.epoch;
  HAVEN_CHECK_OK(spec.placement.Validate(options_.geometry, spec.totals.chunk_count))
      << "epoch=" << spec.epoch;
  spec_ = spec;
  ++starts_;
  cursor_ = Cursor{.credits_used = cursor_.credits_used};
  EncodeCommitRecord({.session = options_.session,
                      .link = options_.link_number,
                      .kind = spec.kind,
                      .epoch = spec.epoch,
                      .base_epoch = spec.base_epoch,
                      .domain_count = options_.domain_count,
                      .placement = spec.placement,
                      .totals = spec.totals},
                     ScratchRecord());
  if (options_.sealer != nullptr) {
    std::ranges::copy(options_.sealer->SealRecord(spec.epoch, ScratchRecord()),
                      ScratchTag().begin());
  }
  state_ = SendState::kSending;
}

SendState EpochSender::Pump() {
  if (state_ != SendState::kSending && state_ != SendState::kWaitingCredits &&
      state_ != SendState::kWaitingQueue) {
    return state_;
  }
  std::array<WriteRequest, kBatch> batch;
  size_t batch_max = kBatch;
  for (size_t budget = kMaxPostsPerPump; budget > 0;) {
    Cursor cursor = cursor_;
    const size_t count = BuildBatch(std::span(batch).first(std::min(batch_max, budget)), &cursor);
    if (count == 0) return state_ = SendState::kWaitingCredits;
    const absl::Status status = link_.PostWrites(std::span(batch).first(count));
    if (absl::IsResourceExhausted(status)) {
      // Nothing was posted; less of it may still fit.
      if (count == 1) return state_ = SendState::kWaitingQueue;
      batch_max = count / 2;
      continue;
    }
    if (!status.ok()) {
      // Unknown how much of the batch went out: as if all of it had.
      cursor_ = cursor;
      return Fail(CompletionResult::kOther);
    }
    cursor_ = cursor;
    budget -= count;
    if (cursor_.commit) return state_ = SendState::kPosted;
  }
  return state_ = SendState::kSending;
}

// Fills the front of `batch` and returns with how many requests: 0 if only the commit record is
// left and there is no credit for it.
size_t EpochSender::BuildBatch(std::span<WriteRequest> batch, Cursor* cursor) const {
  size_t count = 0;
  if (HAVEN_MUTANT(kCommitBeforeData) && cursor->requests == 0) batch[count++] = CommitRequest();
  while (count < batch.size() && cursor->chunk < spec_.chunks.size()) {
    batch[count++] = NextDataRequest(cursor);
  }
  if (count < batch.size() && cursor->credits_used < credits_granted_) {
    batch[count++] = CommitRequest();
    cursor->credits_used += 1;
    cursor->commit = true;
  }
  // The link's queue is freed by completions: with one for each batch it never fills up with
  // requests that have none.
  if (count > 0) batch[count - 1].signaled = true;
  return count;
}

WriteRequest EpochSender::NextDataRequest(Cursor* cursor) const {
  const JournalGeometry& geometry = options_.geometry;
  const uint32_t index = cursor->chunk;
  const uint32_t chunk_bytes =
      static_cast<uint32_t>(kChunkHeaderBytes) + spec_.chunks[index].payload_bytes;
  const uint32_t offset = cursor->chunk_offset;
  WriteRequest request;
  request.id = RequestId(cursor->requests);
  if (spec_.image_slots.empty()) {
    request.local_region = options_.staging_region;
    request.local_offset = options_.staging_offset + uint64_t{index} * geometry.slot_bytes + offset;
  } else {
    request.local_region = options_.image_region;
    request.local_offset = uint64_t{spec_.image_slots[index]} * geometry.slot_bytes + offset;
  }
  request.remote = options_.journal;
  request.remote_offset = geometry.SlotOffset(spec_.placement.ChunkSlot(geometry, index)) + offset;
  request.bytes = std::min(chunk_bytes - offset, options_.max_write_bytes);

  cursor->requests += 1;
  cursor->chunk_offset += request.bytes;
  if (cursor->chunk_offset == chunk_bytes) {
    cursor->chunk += 1;
    cursor->chunk_offset = 0;
    cursor->since_immediate += 1;
    // The commit record's immediate speaks for the last chunk too, and its credit is not touched.
    if (cursor->since_immediate >= options_.group_chunks && cursor->chunk < spec_.chunks.size() &&
        cursor->credits_used + 1 < credits_granted_) {
      request.has_immediate = true;
      request.immediate = cursor->chunk;
      cursor->credits_used += 1;
      cursor->since_immediate = 0;
    }
  }
  return request;
}

WriteRequest EpochSender::CommitRequest() const {
  WriteRequest request;
  request.id = RequestId(kCommitRequest);
  request.local_region = options_.scratch_region;
  request.local_offset = options_.scratch_offset +
                         static_cast<uint64_t>(ScratchRecord().data() - options_.scratch.data());
  request.remote = options_.journal;
  request.remote_offset = CommitSlotOffset(spec_.epoch);
  request.bytes = kCommitRecordBytes;
  if (options_.sealer != nullptr) request.bytes += kSealTagBytes;
  request.has_immediate = true;
  request.immediate = CommitImmediate(spec_.epoch);
  return request;
}

uint64_t EpochSender::RequestId(uint32_t request) const { return kIdBit | starts_ << 32 | request; }

std::span<std::byte, kCommitRecordBytes> EpochSender::ScratchRecord() const {
  const size_t offset = static_cast<size_t>(spec_.epoch % kCommitSlots * kCommitSlotBytes);
  return options_.scratch.subspan(offset).first<kCommitRecordBytes>();
}

std::span<std::byte, kSealTagBytes> EpochSender::ScratchTag() const {
  const size_t offset = static_cast<size_t>(spec_.epoch % kCommitSlots * kCommitSlotBytes);
  return options_.scratch.subspan(offset + kCommitRecordBytes).first<kSealTagBytes>();
}

void EpochSender::OnCompletion(const Completion& completion) {
  if (completion.result != CompletionResult::kOk) {
    // Whoever's request it was: nothing goes through this link any more.
    Fail(completion.result);
  } else if (state_ == SendState::kPosted && completion.kind == CompletionKind::kWrite &&
             completion.id == RequestId(kCommitRequest)) {
    state_ = SendState::kCompleted;
  }
}

void EpochSender::SetCreditsGranted(uint64_t credits_granted) {
  credits_granted_ = std::max(credits_granted_, credits_granted);
}

SendState EpochSender::Fail(CompletionResult failure) {
  // The first failure is the cause, the ones after it are flushes.
  if (failure_ == CompletionResult::kOk) failure_ = failure;
  return state_ = SendState::kFailed;
}

}  // namespace haven
