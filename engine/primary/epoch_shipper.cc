// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_shipper.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {

namespace {

// No session gets so far by itself, and nothing added to it overflows.
constexpr RingPosition kMaxPosition = UINT64_MAX / 2;

}  // namespace

const char* LinkFailureText(LinkFailure failure) {
  switch (failure) {
    case LinkFailure::kNone:
      return "nothing is wrong";
    case LinkFailure::kPermission:
      return "the backup has taken the permission to write away: maybe it is being promoted";
    case LinkFailure::kNoAnswer:
      return "the backup does not answer, or has ended the link";
    case LinkFailure::kOther:
      return "the device reports an error";
    case LinkFailure::kMalformed:
      return "the backup's acknowledgement breaks the format: run the same release on both sides";
    case LinkFailure::kNonsense:
      return "the backup acknowledges an epoch that it can not have: look at its log";
  }
  return "unknown";
}

EpochShipper::EpochShipper(const SessionMemory& memory, EpochBuilder& builder, ChunkSealer* records)
    : memory_(memory), builder_(builder), records_(records) {
  HAVEN_CHECK_OK(memory.geometry.Validate());
  HAVEN_CHECK_GE(memory.scratch.bytes.size(), EpochSender::kScratchBytes);
  HAVEN_CHECK_GE(memory.peer_block.bytes.size(), kPeerBlockBytes);
}

absl::Status EpochShipper::BeginLink(LinkNumber number, Link& link, RingPosition next,
                                     RingPosition tail) {
  if (tail > next || next - tail > memory_.geometry.ring_slots || next > kMaxPosition) {
    return absl::InvalidArgumentError(absl::StrCat("session ", absl::Hex(memory_.session), " link ",
                                                   number, ": the backup offers ring positions ",
                                                   tail, " to ", next, " in a ring of ",
                                                   memory_.geometry.ring_slots, " slots"));
  }
  link_ = &link;
  number_ = number;
  next_ = next;
  tail_ = tail;
  stage_ = Stage::kIdle;
  failure_ = LinkFailure::kNone;
  SenderOptions options;
  options.session = memory_.session;
  options.link_number = number;
  options.domain_count = memory_.domain_count;
  options.geometry = memory_.geometry;
  options.journal = memory_.journal;
  options.staging_region = memory_.staging.id;
  options.image_region = memory_.image.id;
  options.scratch_region = memory_.scratch.id;
  options.scratch = memory_.scratch.bytes.first(EpochSender::kScratchBytes);
  options.max_write_bytes = memory_.max_write_bytes;
  options.sealer = records_;
  sender_.emplace(options, link);
  return link.PostReceives(kReceives);
}

void EpochShipper::EndLink() {
  sender_.reset();
  link_ = nullptr;
  number_ = kNoLink;
  stage_ = Stage::kIdle;
}

absl::Status EpochShipper::OnExtents(LinkNumber link, Epoch epoch,
                                     std::span<const uint32_t> extents) {
  if (link != number_ || stage_ != Stage::kNeedsRoom || epoch != order_.epoch) {
    return absl::OkStatus();  // Of an epoch that was given up.
  }
  if (extents.size() != extents_needed_ || spec_.placement.extent_count != 0) {
    return absl::InvalidArgumentError(absl::StrCat("epoch ", epoch, ": the backup grants ",
                                                   extents.size(), " extents, ", extents_needed_,
                                                   " were asked for, once"));
  }
  EpochPlacement placement = spec_.placement;
  placement.extent_count = extents_needed_;
  std::copy(extents.begin(), extents.end(), placement.extents.begin());
  const absl::Status status = placement.Validate(memory_.geometry, spec_.totals.chunk_count);
  if (!status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("epoch ", epoch, ": the backup's grant of extents: ", status.message()));
  }
  spec_.placement = placement;
  return absl::OkStatus();
}

uint64_t EpochShipper::journal_slots() const {
  const uint64_t pool = std::min<uint64_t>(
      memory_.geometry.pool_slots, uint64_t{kMaxEpochExtents} * memory_.geometry.extent_slots);
  return memory_.geometry.ring_slots + pool;
}

}  // namespace haven
