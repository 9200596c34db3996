// SPDX-License-Identifier: Apache-2.0
//
// Writes one encoded epoch into the journal (DESIGN.md section 5).
#ifndef HAVEN_ENGINE_PRIMARY_EPOCH_SENDER_H_
#define HAVEN_ENGINE_PRIMARY_EPOCH_SENDER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/replica/chunk.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/control_block.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"
#include "transport/fabric.h"

namespace haven {

// What stays the same for all epochs on one link.
struct SenderOptions {
  SessionId session = kNoSession;
  LinkNumber link_number = kNoLink;
  uint16_t domain_count = 0;
  JournalGeometry geometry;
  // The peer's region, of geometry.total_bytes().
  RemoteRegion journal;
  // Local region that holds the chunks, slot after slot from the offset on.
  uint32_t staging_region = 0;
  uint64_t staging_offset = 0;
  // Local region that holds the chunks of coded epochs, in slots.
  uint32_t image_region = 0;
  // EpochSender::kScratchBytes bytes of another local region, at the offset, for commit records
  // only.
  uint32_t scratch_region = 0;
  std::span<std::byte> scratch;
  uint64_t scratch_offset = 0;
  uint32_t max_write_bytes = 0;  // Fabric::max_write_bytes(): at least kSealedRecordBytes.
  uint32_t group_chunks = 8;     // Chunks per immediate, at least 1.
  // Of commit records; null: they are not sealed. Outlives the sender.
  ChunkSealer* sealer = nullptr;
};

// One epoch to send.
struct SendSpec {
  Epoch epoch = kNoEpoch;
  EpochKind kind = EpochKind::kSync;
  Epoch base_epoch = kNoEpoch;
  // Valid for the geometry and chunks.size() (checked).
  EpochPlacement placement;
  // EpochBuilder::chunks() and EncodeResult::totals. The chunks must stay until the epoch is sent.
  std::span<const ChunkTotals> chunks;
  EpochTotals totals;
  // Of a coded epoch: the slot of the image in which each chunk lies. Empty: the chunks lie in
  // staging, in their order.
  std::span<const uint32_t> image_slots;
};

enum class SendState : uint8_t {
  kIdle,            // Nothing was started.
  kSending,         // Pump() again: it stops after a bounded amount of work.
  kWaitingCredits,  // All chunks are posted; the commit record needs a credit: SetCreditsGranted().
  kWaitingQueue,    // The link's queue is full: poll completions.
  kPosted,          // Everything is posted; the commit record is not complete.
  kCompleted,       // The fabric has delivered everything. Not yet the acknowledgement.
  kFailed,          // The link has failed: failure() says how. What was posted MAY have landed.
};

// Posts the chunks of an epoch as large WRITEs, then the commit record, all on one link, in order.
// Ends each group of chunks with an immediate, so that the backup verifies while later chunks are
// on the wire; if the peer has granted too few credits the immediate is left out and comes with a
// later chunk. One credit is kept back for the commit record, so data never holds up a commit.
//
// One object per link (it counts the link's credits). Allocates nothing. Not thread-safe.
class EpochSender {
 public:
  // Bytes of registered scratch: one commit record for each commit slot, so that the record of an
  // epoch whose acknowledgement has overtaken the completion is not the one that is written next.
  static constexpr uint64_t kScratchBytes = kCommitSlots * kCommitSlotBytes;

  // Ids of this sender's requests have this bit set; nothing else on the link may.
  static constexpr uint64_t kIdBit = uint64_t{1} << 63;

  // `link` must outlive the sender. Options are checked.
  EpochSender(const SenderOptions& options, Link& link);

  // Begins an epoch above the last one (checked). Not while one is under way: the state is kIdle,
  // kCompleted, or kPosted if the acknowledgement has overtaken the completion (checked). Posts
  // nothing: Pump() does.
  void Start(const SendSpec& spec);

  // Posts as much as queue and credits allow, at most kMaxPostsPerPump requests, and returns the
  // state.
  SendState Pump();

  // Takes a completion that Link::Poll() returned. Those of other requests are ignored unless they
  // say that the link has failed. Call Pump() afterwards.
  void OnCompletion(const Completion& completion);

  // Value of Ack::credits_granted for this link; smaller than before is ignored.
  void SetCreditsGranted(uint64_t credits_granted);

  SendState state() const { return state_; }
  // Whether the commit record of the epoch that Start() began may be at the peer: without it no
  // acknowledgement of that epoch can be true.
  bool commit_posted() const { return cursor_.commit; }
  // What made the state kFailed; kOk if nothing did.
  CompletionResult failure() const { return failure_; }
  uint64_t credits_used() const { return cursor_.credits_used; }
  uint32_t chunks_posted() const { return cursor_.chunk; }

  static constexpr uint32_t kMaxPostsPerPump = 64;

 private:
  // Requests handed to the link at once; the last of them is signaled.
  static constexpr size_t kBatch = 16;

  // How far the epoch is posted. Advanced on a copy while a batch is built; the copy counts once
  // the link has taken the batch.
  struct Cursor {
    uint32_t chunk = 0;            // Whole chunks.
    uint32_t chunk_offset = 0;     // Bytes of the next chunk.
    uint32_t requests = 0;         // WRITEs.
    uint32_t since_immediate = 0;  // Whole chunks since the last immediate.
    uint64_t credits_used = 0;     // On this link.
    bool commit = false;           // The commit record.
  };

  size_t BuildBatch(std::span<WriteRequest> batch, Cursor* cursor) const;
  WriteRequest NextDataRequest(Cursor* cursor) const;
  WriteRequest CommitRequest() const;
  uint64_t RequestId(uint32_t request) const;
  std::span<std::byte, kCommitRecordBytes> ScratchRecord() const;
  std::span<std::byte, kSealTagBytes> ScratchTag() const;
  SendState Fail(CompletionResult failure);

  const SenderOptions options_;
  Link& link_;
  SendSpec spec_;
  uint64_t starts_ = 0;  // Tells the requests of one epoch from those of another.
  Cursor cursor_;
  uint64_t credits_granted_ = 0;
  SendState state_ = SendState::kIdle;
  CompletionResult failure_ = CompletionResult::kOk;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_EPOCH_SENDER_H_
