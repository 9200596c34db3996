// SPDX-License-Identifier: Apache-2.0
//
// The codec's place on the primary: from captured pages in staging to coded chunks in the image
// (DESIGN.md section 4).
#ifndef HAVEN_ENGINE_PRIMARY_CODEC_STAGE_H_
#define HAVEN_ENGINE_PRIMARY_CODEC_STAGE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/codec/codec_mode.h"
#include "engine/codec/codec_policy.h"
#include "engine/codec/page_codec.h"
#include "engine/primary/copy_pool.h"
#include "engine/primary/epoch_plan.h"
#include "engine/replica/chunk.h"

namespace haven {

struct CodecStageOptions {
  // False: no memory is taken, and the backup is not asked for the features.
  bool enabled = false;
  CodecMode mode = CodecMode::kAuto;  // At first; may change while it runs.
  unsigned block_shift = kMinBlockShift;
  uint64_t cache_bytes = uint64_t{64} << 20;  // Pages whose last version is kept.
  bool hashes = true;                         // Of the pages beyond the cache.
  bool verify = false;                        // Count what the hashes would miss.
  // Most pages of an epoch; 0: all that the guests have.
  uint64_t max_epoch_pages = 0;
  // Draws the secret of a session's hashes; an error is that session's.
  std::function<absl::StatusOr<HashKey>()> draw_key = HashKey::Random;
};

// Of the epochs so far, for the status.
struct CodecReport {
  CodecMode mode = CodecMode::kOff;
  CodecLevel level = CodecLevel::kOff;  // Of the last epoch.
  bool agreed = false;                  // The session's backup takes coded pages.
  uint64_t coded_epochs = 0;
  uint64_t plain_epochs = 0;
  uint64_t capped_epochs = 0;  // At a lower level than chosen, as they would have taken too long.
  CodecCounters pages;
  uint64_t memory_bytes = 0;
};

// Holds what is known of the replica's pages in step with it: an epoch that was encoded moves it
// when the epoch is acknowledged, and drops it when the epoch fails. An epoch that goes plain
// forgets all, so that while the policy leaves the codec off it costs nothing.
//
// All memory is allocated by the constructor and by BeginSession(). Used by one thread, but for
// what Encode() does in its pool.
class CodecStage {
 public:
  // An epoch must not hold the engine up for longer than this to be encoded: at a level at which it
  // would, it is not.
  static constexpr int64_t kMaxEncodeNs = 300 * kNsPerMs;

  // In bytes.
  struct Memory {
    PageCodec::Memory codec;
    uint64_t worker_bytes = 0;  // What the threads encode with.
    uint64_t epoch_bytes = 0;   // What an epoch writes, and where its chunks lie.
    uint64_t image_bytes = 0;   // The session's.

    uint64_t total() const { return codec.total() + worker_bytes + epoch_bytes + image_bytes; }
  };
  // What a stage of these arguments takes before it has a session: known before there is one.
  static Memory MemoryFor(const CodecStageOptions& options,
                          const std::vector<uint64_t>& page_counts, unsigned threads);

  // `threads`: that encode at once, the caller's included.
  CodecStage(const CodecStageOptions& options, std::vector<uint64_t> page_counts, unsigned threads);

  // A session with these features agreed on. `image` takes the coded chunks; it is as large as
  // staging, or empty if there is none: then all epochs go plain. An error, as of
  // CodecStageOptions::draw_key, leaves the stage in no session: no epoch may follow.
  absl::Status BeginSession(uint64_t features, std::span<std::byte> image, uint32_t slot_bytes);

  // From the next epoch on.
  void SetMode(CodecMode mode);

  // Decides about the epoch that was planned, once for each that is sent. True: Encode() follows.
  // False: it is sent as it lies in staging.
  bool Choose(const EpochPlan& plan);

  // The chunks of one epoch in the image.
  struct Image {
    std::span<const ChunkTotals> chunks;
    std::span<const uint32_t> slots;  // Where each chunk lies.
    uint64_t zero_pages = 0;
  };
  // Encodes the planned epoch, whose pages lie in `staging`. There may be fewer chunks than planned
  // slots, or none if nothing has changed. What it returns is valid until the next call.
  const Image& Encode(const EpochPlan& plan, std::span<const std::byte> staging,
                      std::span<const std::span<const std::byte>> states,
                      const ChunkIdentity& identity, CopyPool& pool);

  // A slot of the session's image.
  std::span<std::byte> Slot(uint32_t slot) const {
    return image_.subspan(size_t{slot} * slot_bytes_, slot_bytes_);
  }

  // What the epoch that was sent last has cost, encoded or not.
  void NoteEncoded(uint64_t pages, uint64_t wire_bytes, int64_t encode_ns);
  // The link of that epoch is gone: how long it takes from now on says nothing of the wire.
  void LoseLink() { timed_ = false; }
  // The backup has that epoch; it took so long from the last byte encoded. Without an epoch it does
  // nothing, as does Fail().
  void Acknowledge(int64_t wire_ns);
  // Nobody knows whether it has.
  void Fail();

  CodecReport Report() const;
  Memory memory() const;
  const CodecPolicy& policy() const { return policy_; }

 private:
  // What a thread encodes with.
  struct Worker {
    std::atomic<bool> taken{false};
    CodecWorker codec;
    std::vector<std::byte> body;  // Of the frame being made.
  };
  class Sink;

  Worker& TakeWorker();
  CodecLevel Cap(CodecLevel level, uint64_t pages) const;
  void BeginEpoch(const EpochPlan& plan);
  void EncodeRow(const EpochPlan& plan, std::span<const PlannedSlot> slots,
                 std::span<const std::byte> staging,
                 std::span<const std::span<const std::byte>> states, Worker& worker, Sink& sink);
  void EncodePages(std::span<const std::byte> slot, std::span<const PageRun> runs, Worker& worker,
                   Sink& sink);
  void EncodeBatch(uint16_t domain, std::span<const CodecPage> pages, Worker& worker, Sink& sink);
  void Gather(uint32_t slots);
  const CodecStageOptions options_;
  const unsigned threads_;
  CodecPolicy policy_;
  PageCodec codec_;
  std::vector<std::unique_ptr<Worker>> workers_;

  uint64_t features_ = 0;
  std::span<std::byte> image_;
  uint32_t slot_bytes_ = 0;
  std::vector<CodecRun> runs_;
  std::vector<ChunkTotals> slot_totals_;  // By slot of the image; no frames: not used.
  std::vector<ChunkTotals> chunks_;       // By chunk.
  std::vector<uint32_t> chunk_slots_;
  Image result_;

  CodecMode mode_;
  CodecChoice choice_;         // Of the last epoch.
  bool knows_nothing_ = true;  // The codec holds nothing of the replica.
  bool open_ = false;          // An encoded epoch is neither acknowledged nor failed.
  bool sent_ = false;          // The same of any epoch.
  bool timed_ = false;         // Its time says something of the wire.
  CodecSample sample_;         // Of that epoch.
  uint64_t zero_pages_before_ = 0;
  uint64_t coded_epochs_ = 0;
  uint64_t plain_epochs_ = 0;
  uint64_t capped_epochs_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_CODEC_STAGE_H_
