// SPDX-License-Identifier: Apache-2.0
//
// Turns what the primary wrote into the journal into committed epochs, or refuses it.
#ifndef HAVEN_ENGINE_BACKUP_JOURNAL_READER_H_
#define HAVEN_ENGINE_BACKUP_JOURNAL_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backup/replica_domain.h"
#include "engine/backup/slot_ledger.h"
#include "engine/backup/state_store.h"
#include "engine/codec/coded_epoch_check.h"
#include "engine/replica/chunk.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

// A committed epoch, ready to be applied. Everything here is private memory of the backup; the
// slots themselves stay writable for the peer and are input again when they are applied.
struct VerifiedEpoch {
  CommitRecord record;  // The copy that was checked.
  // The CRC of each chunk as it was verified, by slot of the journal (not by index in the epoch).
  // The reader's; an entry does not change before the epoch's slots are released.
  std::span<const uint32_t> slot_crcs;

  Epoch epoch() const { return record.epoch; }
  EpochKind kind() const { return record.kind; }
};

// Reads one session's journal. The peer may rewrite any byte of it at any time: whatever is checked
// is checked on a private copy, or checked again when it is used. After any error the link must be
// dropped and nothing of the running epoch is committed; a new link starts over from
// committed_epoch(). Not thread-safe; does not block; does not allocate while all is well.
class JournalReader {
 public:
  struct Options {
    std::span<const std::byte> region;  // The journal region: geometry.total_bytes() or more.
    JournalGeometry geometry;
    SessionId session = kNoSession;
    // The epoch that the replica's memory already equals, if a delta onto an older replica is being
    // received; kNoEpoch for a new one. It counts as committed, but has no state.
    Epoch base_epoch = kNoEpoch;
    // The domains of the session in their order.
    std::vector<ReplicaDomain*> replicas;
    SlotLedger* ledger = nullptr;  // Of the same geometry.
    StateStore* states = nullptr;  // Of the same domains.
    // The features agreed on: coded pages are taken with those of kCodecFeatures, and cost two bits
    // a page of the guests and 1 MiB then.
    uint64_t features = 0;
    // Of a session in which sealing was agreed on (checked).
    std::optional<SealKey> seal_key = std::nullopt;
  };

  // What is pointed to outlives the reader. Broken rules above are checked.
  explicit JournalReader(Options options);

  JournalReader(const JournalReader&) = delete;
  JournalReader& operator=(const JournalReader&) = delete;

  // Starts a new link, with a higher number than all before (checked). What an earlier link left
  // unfinished is forgotten, and its grants of extents are taken back. The peer's first epoch on
  // this link is based on committed_epoch() and begins at the ledger's next().
  void BeginLink(LinkNumber link);

  // Takes one immediate of the link, in the order of arrival:
  // - Bit 31 clear, the rest is n: chunks [0, n) of the running epoch are complete. Verifies those
  //   whose place is known by now: in the ring from the ledger's next() on, then in the extents in
  //   the order of their grant; with a grant outstanding the record has the last word on which.
  //   Yields nullopt.
  // - Bit 31 set, the rest are the low bits of an epoch's number: the commit record in the slot
  // that
  //   control_block.h gives for this number is complete. Copies and checks the record, verifies the
  //   chunks that are left, checks totals and states; then the epoch is committed: it is entered in
  //   the ledger, its states are in the state store, and it is returned. Acknowledge it after that.
  //   The ledger must not be full (checked): keep the immediate until the oldest epoch is released.
  // Errors, each naming session, link, field and value:
  //   DataLoss            a CRC or a seal does not fit, or bytes changed while they were read.
  //   InvalidArgument     a value is wrong.
  //   FailedPrecondition  no link has begun, or it has failed before.
  //   Others              as ReplicaDomain::CheckState() refused a state.
  absl::StatusOr<std::optional<VerifiedEpoch>> OnImmediate(uint32_t immediate);

  // For a promotion, after the peer is cut off and all epochs are applied: if a checkpoint after
  // the committed epoch arrived whole on the last link, commits it as above, whether or not its
  // immediate was seen. Any error means that committed_epoch() is the epoch to promote and says
  // what is missing: NotFound if nothing newer than it was found, FailedPrecondition if it is no
  // checkpoint or no link was ever begun, else as above.
  absl::StatusOr<VerifiedEpoch> TryFinal();

  // The last epoch committed; Options::base_epoch before the first.
  Epoch committed_epoch() const { return committed_epoch_; }

  // True once a checkpoint was committed. From then on sync epochs are refused: they would turn a
  // replica that may be promoted into one that must not.
  bool has_checkpoint() const { return has_checkpoint_; }

  SessionId session() const { return session_; }
  LinkNumber link() const { return link_; }

 private:
  enum class LinkState : uint8_t { kNone, kGood, kFailed };

  // A slot whose header names the chunk that was looked for.
  struct Candidate {
    uint32_t slot = 0;
    ChunkHeader header;
    uint32_t chunk_crc = 0;
  };

  // journal_reader_datapath.cc
  absl::Status OnChunks(uint32_t announced);
  bool HoldsChunk(uint32_t slot, uint32_t index, Candidate* found) const;
  bool FindChunk(uint32_t index, Candidate* found);
  absl::Status BeginEpoch(Epoch epoch, EpochKind kind);
  absl::Status VerifyChunk(const Candidate& candidate, uint32_t index);
  absl::Status ReadRecord(uint32_t immediate, CommitRecord* record) const;
  absl::StatusOr<VerifiedEpoch> OnRecord(const CommitRecord& record);
  absl::Status VerifyRest(const CommitRecord& record);
  VerifiedEpoch Commit(const CommitRecord& record);
  void ForgetEpoch();

  // journal_reader.cc
  absl::Status DecodeSlot(uint64_t commit_index, CommitRecord* record) const;
  absl::Status CheckNames(const CommitRecord& record) const;
  absl::Status CheckSlots(const CommitRecord& record) const;
  absl::Status CheckStates(const CommitRecord& record) const;
  absl::Status ChunkMissing(uint32_t slot, uint32_t index) const;
  absl::Status InLink(const absl::Status& cause) const;

  std::span<const std::byte> Slot(uint32_t slot) const {
    return region_.subspan(geometry_.SlotOffset(slot), geometry_.slot_bytes);
  }

  const std::span<const std::byte> region_;
  const JournalGeometry geometry_;
  const SessionId session_;
  const std::vector<ReplicaDomain*> replicas_;
  SlotLedger* const ledger_;
  StateStore* const states_;
  const std::unique_ptr<CodedEpochCheck> coded_;  // Null: coded pages are refused.
  const std::unique_ptr<ChunkOpener> opener_;     // Null: nothing is sealed.
  EpochValidator validator_;

  LinkNumber link_ = kNoLink;
  LinkState link_state_ = LinkState::kNone;
  Epoch committed_epoch_;
  bool has_checkpoint_ = false;

  // The epoch being received; kNoEpoch before its first chunk is seen.
  Epoch running_epoch_ = kNoEpoch;
  uint32_t announced_ = 0;                // Chunks that the peer says are complete.
  uint32_t verified_ = 0;                 // Chunks that are good.
  std::optional<uint32_t> extents_from_;  // First chunk found in the extents.
  std::vector<uint32_t> chunk_slots_;     // By chunk of the running epoch: where it was verified.
  std::vector<uint32_t> slot_crcs_;       // By slot.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_JOURNAL_READER_H_
