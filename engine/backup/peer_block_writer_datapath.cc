// SPDX-License-Identifier: Apache-2.0
#include <bit>

#include "engine/backup/peer_block_writer.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

static_assert(kAckBytes <= SectionLane::kBufferBytes);
static_assert(kHeartbeatBytes <= SectionLane::kBufferBytes);

[[gnu::cold]] absl::Status NoLinkError() {
  return absl::UnavailableError("peer block: there is no link");
}

[[gnu::cold]] absl::Status FailedWriteError(CompletionResult result) {
  switch (result) {
    case CompletionResult::kOk:
      return absl::OkStatus();
    case CompletionResult::kPermission:
      return absl::UnavailableError("peer block: the primary has taken the permission away");
    case CompletionResult::kRetry:
      return absl::UnavailableError("peer block: the primary does not answer");
    case CompletionResult::kFlushed:
      return absl::UnavailableError("peer block: not written, the link had failed before");
    case CompletionResult::kOther:
      return absl::UnavailableError("peer block: the write failed");
  }
  return absl::UnavailableError("peer block: the write failed");
}

}  // namespace

SectionLane::SectionLane(const LocalRegion& scratch, uint64_t scratch_offset,
                         const RemoteRegion& remote, uint64_t remote_offset, uint64_t first_id)
    : scratch_(scratch),
      scratch_offset_(scratch_offset),
      remote_(remote),
      remote_offset_(remote_offset),
      first_id_(first_id) {
  HAVEN_CHECK_LE(scratch_offset, scratch.bytes.size());
  HAVEN_CHECK_GE(scratch.bytes.size() - scratch_offset, kScratchBytes);
  HAVEN_CHECK_GE(remote.bytes, kPeerBlockBytes);
}

uint32_t SectionLane::NextBuffer() const {
  HAVEN_CHECK(has_buffer());
  return static_cast<uint32_t>(std::countr_one(outstanding_));
}

std::span<std::byte> SectionLane::buffer() const {
  return scratch_.bytes.subspan(scratch_offset_ + NextBuffer() * kBufferBytes, kBufferBytes);
}

absl::Status SectionLane::Post(Link& link, uint32_t bytes, bool wake, uint32_t immediate) {
  const uint32_t number = NextBuffer();
  const WriteRequest request{.id = first_id_ + number,
                             .local_region = scratch_.id,
                             .local_offset = scratch_offset_ + number * kBufferBytes,
                             .remote = remote_,
                             .remote_offset = remote_offset_,
                             .bytes = bytes,
                             .signaled = true,
                             .has_immediate = wake,
                             .immediate = immediate};
  HAVEN_RETURN_IF_ERROR(link.PostWrites({&request, 1}));
  outstanding_ |= uint32_t{1} << number;
  return absl::OkStatus();
}

void SectionLane::Complete(uint64_t id) {
  HAVEN_CHECK(owns(id)) << "id=" << id;
  const uint32_t bit = uint32_t{1} << (id - first_id_);
  HAVEN_CHECK_NE(outstanding_ & bit, 0u) << "id=" << id;
  outstanding_ &= ~bit;
}

PeerBlockWriter::PeerBlockWriter(SessionId session, const LocalRegion& scratch,
                                 uint64_t scratch_offset, const RemoteRegion& peer_block)
    : lane_(scratch, scratch_offset, peer_block, kAckOffset, kFirstId) {
  ack_.session = session;
}

void PeerBlockWriter::BeginLink(LinkNumber number, Link* link) {
  HAVEN_CHECK_GT(number, ack_.link);
  HAVEN_CHECK(link != nullptr);
  lane_.Reset();
  link_ = link;
  ack_.link = number;
  ack_.credits_granted = 0;
  pending_ = false;
  pending_wake_ = false;
}

void PeerBlockWriter::EndLink() {
  link_ = nullptr;
  pending_ = false;
  pending_wake_ = false;
}

void PeerBlockWriter::SetCommitted(Epoch epoch) {
  HAVEN_CHECK_GE(epoch, ack_.committed_epoch);
  ack_.committed_epoch = epoch;
}

void PeerBlockWriter::SetApplied(Epoch epoch, RingPosition ring_tail) {
  HAVEN_CHECK_GE(epoch, ack_.applied_epoch);
  HAVEN_CHECK_LE(epoch, ack_.committed_epoch);
  HAVEN_CHECK_GE(ring_tail, ack_.ring_tail);
  ack_.applied_epoch = epoch;
  ack_.ring_tail = ring_tail;
}

absl::Status PeerBlockWriter::GrantCredits(uint32_t count) {
  if (link_ == nullptr) return NoLinkError();
  HAVEN_RETURN_IF_ERROR(link_->PostReceives(count));
  ack_.credits_granted += count;
  return absl::OkStatus();
}

absl::Status PeerBlockWriter::Publish(bool wake) {
  if (link_ == nullptr) return NoLinkError();
  pending_ = true;
  pending_wake_ |= wake;
  return Flush();
}

absl::Status PeerBlockWriter::Flush() {
  if (!pending_ || !lane_.has_buffer()) return absl::OkStatus();
  EncodeAck(ack_, lane_.buffer().first<kAckBytes>());
  const absl::Status posted =
      lane_.Post(*link_, kAckBytes, pending_wake_, static_cast<uint32_t>(ack_.committed_epoch));
  if (absl::IsResourceExhausted(posted)) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(posted);
  pending_ = false;
  pending_wake_ = false;
  return absl::OkStatus();
}

bool PeerBlockWriter::OnCompletion(const Completion& completion, absl::Status* status) {
  if (completion.kind != CompletionKind::kWrite || !lane_.owns(completion.id)) return false;
  lane_.Complete(completion.id);
  *status = FailedWriteError(completion.result);
  if (status->ok() && link_ != nullptr) *status = Flush();
  return true;
}

PeerHeartbeatWriter::PeerHeartbeatWriter(SessionId session, const LocalRegion& scratch,
                                         uint64_t scratch_offset, const RemoteRegion& peer_block,
                                         uint64_t last_counter)
    : lane_(scratch, scratch_offset, peer_block, kBackupHeartbeatOffset, kFirstId) {
  heartbeat_.session = session;
  heartbeat_.counter = last_counter;
}

void PeerHeartbeatWriter::BeginLink(LinkNumber number, Link* link) {
  HAVEN_CHECK_GT(number, heartbeat_.link);
  HAVEN_CHECK(link != nullptr);
  lane_.Reset();
  link_ = link;
  heartbeat_.link = number;
}

void PeerHeartbeatWriter::EndLink() { link_ = nullptr; }

absl::Status PeerHeartbeatWriter::Beat(BackupState state) {
  ++heartbeat_.counter;
  heartbeat_.state = static_cast<uint32_t>(state);
  if (link_ == nullptr) return NoLinkError();
  if (!lane_.has_buffer()) return absl::OkStatus();
  EncodeHeartbeat(HeartbeatSender::kBackup, heartbeat_, lane_.buffer().first<kHeartbeatBytes>());
  const absl::Status posted = lane_.Post(*link_, kHeartbeatBytes, /*wake=*/false, 0);
  return absl::IsResourceExhausted(posted) ? absl::OkStatus() : posted;
}

bool PeerHeartbeatWriter::OnCompletion(const Completion& completion, absl::Status* status) {
  if (completion.kind != CompletionKind::kWrite || !lane_.owns(completion.id)) return false;
  lane_.Complete(completion.id);
  *status = FailedWriteError(completion.result);
  return true;
}

}  // namespace haven
