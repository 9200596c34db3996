// SPDX-License-Identifier: Apache-2.0
//
// From the guests' dirty logs to chunks in staging: the part of an epoch that touches guest memory
// (DESIGN.md section 4).
#ifndef HAVEN_ENGINE_PRIMARY_EPOCH_BUILDER_H_
#define HAVEN_ENGINE_PRIMARY_EPOCH_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/primary/codec_stage.h"
#include "engine/primary/copy_pool.h"
#include "engine/primary/dirty_sets.h"
#include "engine/primary/domain.h"
#include "engine/primary/epoch_plan.h"
#include "engine/primary/seal_stage.h"
#include "engine/replica/chunk.h"
#include "engine/replica/identity.h"

namespace haven {

struct FetchResult {
  // OK, or the first domain's error that is not Aborted (Unavailable: it is gone). What was fetched
  // before is kept, so Fetch may be called again.
  absl::Status status;
  // A dirty log was lost: all RAM of that domain was marked. The epoch will be a full one.
  bool lost_log = false;
  absl::Status lost_cause;  // Aborted, as the domain said it; the last one's.
  int64_t bitmap_ns = 0;
};

struct CaptureResult {
  enum class Outcome : uint8_t {
    kCaptured,
    // A checkpoint that does not fit: nothing was copied, everything is still pending. Ask for room
    // for `slots` slots and capture again while the guests stay stopped.
    kTooLarge,
    // A domain's state could not be captured: `status` says whose and why. Everything is pending
    // again.
    kFailed,
    kGuestRuns,  // The same, since somebody has let it go on.
  };
  Outcome outcome = Outcome::kCaptured;
  absl::Status status;  // Not OK only if kFailed or kGuestRuns.
  uint64_t slots = 0;  // Slots of the epoch; if kTooLarge: needed, with states of the largest size.
  uint64_t pages = 0;  // Pages of the epoch.
  uint64_t state_bytes = 0;
  int64_t plan_ns = 0;
  int64_t copy_ns = 0;
  int64_t state_ns = 0;
};

struct EncodeResult {
  EpochTotals totals;
  bool coded = false;       // By the codec.
  uint64_t zero_pages = 0;  // Pages that travel without their bytes.
  uint64_t wire_bytes = 0;  // Of all chunks, headers included.
  int64_t encode_ns = 0;
};

// Captures and encodes one epoch after the other:
//
//   Fetch()               guests stopped (checkpoint) or running (sync)
//   Capture(kind, limit)  guests as for Fetch
//   Encode(identity)      guests running again
//   ... send chunks(), wait for the acknowledgement ...
//   sets.DropInflight() when it is acknowledged, sets.RestoreInflight() on any failure, and the
//   same to the codec
//
// Allocates in the constructor only. Takes time from `clock` alone and does everything in the
// caller if the pool has no workers, so the simulation runs this very code. Used by one thread.
class EpochBuilder {
 public:
  // All of these must outlive the builder. `domains` are 1 to kMaxDomains, numbered in this order;
  // `sets` was made from their memories in the same order. `staging` is memory that the link can
  // send from, at least one slot of `slot_bytes` (a size that JournalGeometry allows); what does
  // not make a whole slot is not used. All checked. `codec` chooses which epochs are coded, in a
  // session that it has begun; null: none is. `seal` seals all chunks; null: they stay plain.
  EpochBuilder(std::span<Domain* const> domains, DirtySets& sets, std::span<std::byte> staging,
               uint32_t slot_bytes, CopyPool& pool, const Clock& clock, CodecStage* codec = nullptr,
               SealStage* seal = nullptr);

  // Fetches the dirty logs of all domains into `sets`, and clears them; with kKeep they may stay as
  // they are (Domain::FetchDirty).
  enum class Log : uint8_t { kClear, kKeep };
  FetchResult Fetch(Log log = Log::kClear);

  // Plans what is pending, in at most `slot_limit` slots (bounded by max_slots() as well), copies
  // the pages to staging and, for a checkpoint, captures the states. A checkpoint takes all that is
  // pending or nothing; a sync epoch as much as fits. Pages taken are in flight afterwards. Nothing
  // may be in flight before (checked). A sync epoch can come out with no slot: then nothing was
  // pending.
  CaptureResult Capture(EpochKind kind, uint64_t slot_limit);

  // Makes the captured epoch's chunks, ready to send, in staging or, coded, in the image. Once
  // after each Capture that had Outcome::kCaptured (checked). `index` and `kind` of the identity
  // are set here.
  EncodeResult Encode(const ChunkIdentity& identity);

  // The chunks of the encoded epoch in order; chunk i begins at byte i * slot_bytes() of staging,
  // or, if image_slots() is not empty, at byte image_slots()[i] * slot_bytes() of the image, and is
  // kChunkHeaderBytes + payload_bytes long. Valid until the next Capture.
  std::span<const ChunkTotals> chunks() const { return chunks_; }
  std::span<const uint32_t> image_slots() const { return image_slots_; }

  uint32_t slot_bytes() const { return plan_.slot_bytes(); }
  uint32_t max_slots() const { return plan_.max_slots(); }

 private:
  enum class Stage : uint8_t { kEmpty, kCaptured, kEncoded };

  absl::Status CaptureStates();
  std::span<std::byte> Slot(uint32_t slot) const;
  std::span<std::byte> Chunk(uint32_t index) const;
  void EncodePlain(const ChunkIdentity& identity);
  void EncodeCoded(const ChunkIdentity& identity);
  EncodeResult Sum() const;

  const std::vector<Domain*> domains_;
  DirtySets& sets_;
  const std::span<std::byte> staging_;
  CopyPool& pool_;
  const Clock& clock_;
  CodecStage* const codec_;
  SealStage* const seal_;
  EpochPlan plan_;

  std::vector<std::vector<std::byte>> state_room_;  // One per domain, of its largest size.
  std::vector<std::span<const std::byte>> states_;  // What of it the current epoch uses.
  std::vector<uint32_t> state_bytes_;               // The sizes of states_.
  std::vector<ChunkTotals> chunks_;
  uint64_t zero_pages_ = 0;
  std::vector<uint32_t> slot_zero_pages_;  // One per slot of a plain epoch.
  std::vector<uint32_t> image_slots_;      // One per chunk of a coded epoch.
  EpochKind kind_ = EpochKind::kSync;
  Stage stage_ = Stage::kEmpty;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_EPOCH_BUILDER_H_
