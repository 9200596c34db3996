// SPDX-License-Identifier: Apache-2.0
//
// Decides whether an epoch is good: after its OK, applying the epoch can not fail (DESIGN.md
// section 5).
#ifndef HAVEN_ENGINE_REPLICA_EPOCH_VALIDATOR_H_
#define HAVEN_ENGINE_REPLICA_EPOCH_VALIDATOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/chunk.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/coded_frame_check.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/frame.h"
#include "engine/replica/guest_memory.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

// What the validator must know of one domain.
struct EpochTarget {
  const GuestMemory* memory = nullptr;  // Outlives the validator.
  uint32_t max_state_bytes = 0;         // Largest state that is accepted.
};

// Checks the chunks of one epoch after another, in the order of their index and as they arrive,
// then the commit record. Reads the slots in place; does not allocate if OK; not thread-safe. The
// first error ends the epoch: every later call but Begin() returns FailedPrecondition.
class EpochValidator {
 public:
  // The domains of the session in their order: 1 .. kMaxDomains (checked). `coded` and `opener`
  // outlive the validator; without the one, frames of coded pages are refused; without the other,
  // sealed chunks are, and with it all others.
  explicit EpochValidator(std::span<const EpochTarget> targets, CodedFrameCheck* coded = nullptr,
                          ChunkOpener* opener = nullptr);

  // Starts an epoch and forgets the last one. `states` is empty, or has one buffer a domain of at
  // least its max_state_bytes (checked): AddChunk() then copies the states there as it checks them,
  // and they are complete after Finish(). The buffers stay the caller's, and valid until the next
  // Begin().
  void Begin(SessionId session, LinkNumber link, Epoch epoch, EpochKind kind,
             std::span<const std::span<std::byte>> states = {});

  // Checks chunk `index` in `slot` (a whole slot): header, CRCs, and each frame against the guest
  // and against all frames before. The slot must not be written any more. NotFound: it never was.
  // DataLoss: a CRC does not fit. InvalidArgument: a field is wrong. All name epoch, chunk, field
  // and value. FailedPrecondition: no epoch has begun, or it has failed or is finished.
  absl::Status AddChunk(std::span<const std::byte> slot, uint32_t index);

  // Checks that the record speaks of exactly the chunks that were added, and that the epoch is
  // complete: a checkpoint has the whole state of every domain, a sync epoch none. `record` comes
  // from DecodeCommitRecord(). Errors as for AddChunk().
  absl::Status Finish(const CommitRecord& record);

  // Sums over the chunks added so far.
  const EpochTotals& totals() const { return totals_; }

  // Bytes of a domain's state, after Finish() of a checkpoint.
  uint32_t state_bytes(uint16_t domain) const { return state_bytes_[domain]; }

 private:
  enum class Phase : uint8_t { kIdle, kOpen, kDone };

  absl::Status CheckChunk(std::span<const std::byte> slot, uint32_t index);
  static absl::Status CheckPlain(const ChunkHeader& header, std::span<const std::byte> payload);
  absl::Status CheckIdentity(const ChunkIdentity& identity, uint32_t index) const;
  absl::Status CheckPages(const Frame& frame);
  absl::Status CheckRun(const Frame& frame, Gfn* end);
  absl::Status CheckState(const Frame& frame);
  absl::Status CheckRecord(const CommitRecord& record) const;

  absl::Status NotOpenError() const;
  absl::Status Failed(uint32_t index, const absl::Status& error);
  static absl::Status AtFrame(uint32_t frame, const absl::Status& error);

  std::array<EpochTarget, kMaxDomains> targets_{};
  uint16_t domain_count_ = 0;
  CodedFrameCheck* coded_;
  ChunkOpener* opener_;

  Phase phase_ = Phase::kIdle;
  ChunkIdentity identity_;  // Of the epoch; `index` is that of the next chunk.
  std::array<std::span<std::byte>, kMaxDomains> state_buffers_{};
  bool keep_states_ = false;
  EpochTotals totals_;

  // Order of runs: the next one begins at or above (run_domain_, next_gfn_).
  uint16_t run_domain_ = 0;
  Gfn next_gfn_ = 0;

  // Order of states: those below state_domain_ are complete; that one has state_done_ bytes of
  // state_bytes_[state_domain_].
  uint16_t state_domain_ = 0;
  uint32_t state_done_ = 0;
  bool states_begun_ = false;
  std::array<uint32_t, kMaxDomains> state_bytes_{};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_EPOCH_VALIDATOR_H_
