// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/primary/epoch_shipper.h"

namespace haven {
namespace {

// The peer can send immediates for as long as it likes: the rest has to wait for the next call.
constexpr int kBatchesPerPoll = 8;

LinkFailure FailureOf(CompletionResult result) {
  switch (result) {
    case CompletionResult::kPermission:
      return LinkFailure::kPermission;
    case CompletionResult::kRetry:
    case CompletionResult::kFlushed:
      return LinkFailure::kNoAnswer;
    case CompletionResult::kOk:  // Nothing came back: the link did not take the request.
    case CompletionResult::kOther:
      break;
  }
  return LinkFailure::kOther;
}

}  // namespace

EncodeResult EpochShipper::Ship(const SendOrder& order) {
  HAVEN_CHECK(link_ != nullptr && stage_ == Stage::kIdle);
  HAVEN_CHECK_EQ(order.link, number_);
  order_ = order;
  const EncodeResult encoded = builder_.Encode(
      {.session = order.session, .link = order.link, .epoch = order.epoch, .kind = order.kind});
  const uint32_t slots = encoded.totals.chunk_count;
  const uint32_t ring = memory_.geometry.ring_slots;
  spec_ = SendSpec{};
  spec_.epoch = order.epoch;
  spec_.kind = order.kind;
  spec_.base_epoch = order.base_epoch;
  spec_.chunks = builder_.chunks();
  spec_.totals = encoded.totals;
  spec_.image_slots = builder_.image_slots();
  spec_.placement.first_position = next_;
  spec_.placement.ring_slots_used = std::min(slots, ring);
  const uint32_t beyond = slots - spec_.placement.ring_slots_used;
  extents_needed_ = (beyond + memory_.geometry.extent_slots - 1) / memory_.geometry.extent_slots;
  ask_extents_ = extents_needed_ > 0;
  stage_ = Stage::kNeedsRoom;
  return encoded;
}

bool EpochShipper::HasRoom() const {
  const uint64_t in_use = HAVEN_MUTANT(kReuseBeforeApply) ? 0 : next_ - tail_;
  const uint64_t free = memory_.geometry.ring_slots - in_use;
  return spec_.placement.ring_slots_used <= free && spec_.placement.extent_count == extents_needed_;
}

// The first failure is the cause, the ones after it are its consequences.
void EpochShipper::Fail(LinkFailure failure) {
  if (failure_ == LinkFailure::kNone) failure_ = failure;
}

EpochShipper::News EpochShipper::Poll() {
  News news;
  if (link_ == nullptr) return news;
  std::array<Completion, 32> completions;
  for (int batch = 0; batch < kBatchesPerPoll; ++batch) {
    const size_t count = link_->Poll(completions);
    for (size_t i = 0; i < count; ++i) {
      const Completion& completion = completions[i];
      if (completion.kind == CompletionKind::kImmediate &&
          completion.result == CompletionResult::kOk) {
        if (!link_->PostReceives(1).ok()) Fail(LinkFailure::kOther);
        continue;
      }
      const SendState before = sender_->state();
      sender_->OnCompletion(completion);
      if (sender_->state() == SendState::kCompleted && before != SendState::kCompleted) {
        news.wired = true;
      }
      news.progress = true;
      if (completion.result != CompletionResult::kOk) Fail(FailureOf(completion.result));
    }
    if (count < completions.size()) break;
  }
  ReadAck(&news);
  if (stage_ == Stage::kNeedsRoom) {
    if (ask_extents_) {
      ask_extents_ = false;
      news.extents_wanted = extents_needed_;
    }
    if (HasRoom() && failure_ == LinkFailure::kNone) {
      sender_->Start(spec_);
      stage_ = Stage::kOnWire;
      news.progress = true;
    }
  }
  if (stage_ == Stage::kOnWire) {
    const SendState state = sender_->Pump();
    if (state == SendState::kSending) news.progress = true;  // More can be posted at once.
    if (state == SendState::kFailed) Fail(FailureOf(sender_->failure()));
  }
  news.failed = failure_ != LinkFailure::kNone;
  return news;
}

// The section says everything that was ever said on this link, so only the newest one counts. The
// peer may be writing it: a torn one is looked at again in the next round.
void EpochShipper::ReadAck(News* news) {
  const std::span<const std::byte> section =
      memory_.peer_block.bytes.subspan(kAckOffset, kAckBytes);
  const bool seen = std::equal(section.begin(), section.end(), last_section_.begin());
  if (seen && !HAVEN_MUTANT(kBelieveOldAck)) return;
  std::array<std::byte, kAckBytes> copy;
  std::copy(section.begin(), section.end(), copy.begin());
  Ack ack;
  const absl::Status decoded = DecodeAck(copy, &ack);
  // Its checksum fits, so nobody is writing it any more.
  if (absl::IsInvalidArgument(decoded)) return Fail(LinkFailure::kMalformed);
  if (!decoded.ok()) return;
  last_section_ = copy;
  const bool ours = ack.session == memory_.session && ack.link == number_;
  if (!ours && !HAVEN_MUTANT(kBelieveOldAck)) return;
  news->progress = true;
  sender_->SetCreditsGranted(ack.credits_granted);
  if (ack.ring_tail > tail_ && ack.ring_tail <= next_) tail_ = ack.ring_tail;
  if (stage_ == Stage::kIdle) return;
  const bool claimed = ack.committed_epoch >= order_.epoch;
  const bool possible =
      stage_ == Stage::kOnWire && sender_->commit_posted() && ack.committed_epoch == order_.epoch;
  if (claimed && !possible && !HAVEN_MUTANT(kBelieveOldAck)) {
    // The peer says of an epoch what it can not know: nothing that it says releases output.
    return Fail(LinkFailure::kNonsense);
  }
  if (!claimed || stage_ != Stage::kOnWire) return;
  stage_ = Stage::kIdle;
  next_ += spec_.placement.ring_slots_used;
  if (ack.ring_tail > tail_ && ack.ring_tail <= next_) tail_ = ack.ring_tail;
  news->committed = order_.epoch;
}

}  // namespace haven
