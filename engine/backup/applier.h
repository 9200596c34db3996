// SPDX-License-Identifier: Apache-2.0
//
// Copies committed epochs from the journal into the replicas' memory.
#ifndef HAVEN_ENGINE_BACKUP_APPLIER_H_
#define HAVEN_ENGINE_BACKUP_APPLIER_H_

#include <pthread.h>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backup/journal_reader.h"
#include "engine/backup/replica_domain.h"
#include "engine/backup/slot_ledger.h"
#include "engine/base/fd.h"
#include "engine/codec/coded_frame_applier.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

// An epoch that the applier is done with.
struct AppliedEpoch {
  Epoch epoch = kNoEpoch;
  // OK, or DataLoss: the replica is poisoned and this session must never be promoted.
  absl::Status status;
};

// Applies epochs one after the other, in the order of their submission; the chunks of one epoch are
// shared by the workers, whose pages are disjoint. With 0 workers everything happens in Submit().
//
// The journal stays writable for the peer after the acknowledgement. An honest one does not touch a
// slot before its release; whatever a dishonest one writes, no byte outside the replica's RAM pages
// is touched, and a chunk that is not what was verified poisons the replica: its memory may then
// hold anything, and it must never be promoted.
//
// Submit, PopFinished, Drain and Join belong to one thread. No call but Create() allocates while
// all is well.
class Applier {
 public:
  struct Options {
    std::span<const std::byte> region;  // The journal region: geometry.total_bytes() or more.
    JournalGeometry geometry;
    // The domains of the session in their order: at least one (checked).
    std::vector<ReplicaDomain*> replicas;
    unsigned threads = 0;  // Background workers, at most kMaxThreads (checked).
    // Compute each payload's CRC again right after it was copied. The header of every chunk is
    // compared with what was verified, before and after the copy, in any case: that finds a slot
    // that was reused before its release. The payload's CRC finds everything else that may change
    // between acknowledgement and apply, such as memory that decays. bench/backup_bench.cc measures
    // its cost.
    bool recheck_crc = true;
    // Coded pages were agreed on: they are applied, and each thread has 1 MiB to decode them.
    bool coded_pages = false;
    // Sealing was agreed on: each thread has a slot's room to open chunks. Needs Rekey().
    bool sealed = false;
  };

  static constexpr unsigned kMaxThreads = 64;

  // What is pointed to outlives the applier. ResourceExhausted: no descriptor or thread to be had.
  static absl::StatusOr<std::unique_ptr<Applier>> Create(Options options);

  // Joins; what was submitted and not begun is not applied.
  ~Applier();

  Applier(const Applier&) = delete;
  Applier& operator=(const Applier&) = delete;

  // The key of the epochs that are submitted from here on; Options::sealed only, and nothing that
  // was submitted is unfinished (checked).
  void Rekey(const SealKey& key);

  // True if fewer than kMaxUnappliedEpochs epochs were submitted and not popped.
  bool CanSubmit() const;

  // Takes a committed epoch; CanSubmit() is true (checked).
  void Submit(const VerifiedEpoch& epoch);

  // The oldest epoch that is done and was not popped yet; nullopt if there is none, and event_fd()
  // is then not readable until there is one. Release its slots only if its status is OK.
  std::optional<AppliedEpoch> PopFinished();

  // Readable when PopFinished() may have something; -1 with 0 workers.
  int event_fd() const { return event_.get(); }

  // Returns when every submitted epoch is done (not popped); the calling thread helps. Takes as
  // long as the copying takes, at most kMaxUnappliedEpochs epochs. Returns status().
  absl::Status Drain();

  // Ends the workers after the chunk that each is at. No thread touches the replicas from here on,
  // but the caller of Submit() and Drain(). Idempotent.
  void Join();

  // OK, or why the replica is poisoned: DataLoss naming epoch, chunk and slot, for ever.
  absl::Status status() const;

 private:
  struct Job {
    VerifiedEpoch epoch;
    uint32_t claimed = 0;  // Chunks that a thread has taken.
    uint32_t done = 0;     // Chunks that are through.
    absl::Status status;
  };

  // What a thread works with.
  struct Tools {
    std::unique_ptr<CodedFrameApplier> coded;  // Null: coded pages are refused.
    std::unique_ptr<ChunkOpener> opener;       // Null: nothing is sealed.
  };

  explicit Applier(const Options& options);

  static void* RunWorker(void* applier);
  void Work();
  bool HasChunkToClaim() const;
  bool ApplyNextChunk(std::unique_lock<std::mutex>& lock, const Tools& tools);
  void FinishJobs();
  Job& JobAt(uint64_t number) { return jobs_[number % jobs_.size()]; }
  const Job& JobAt(uint64_t number) const { return jobs_[number % jobs_.size()]; }

  // applier_datapath.cc. Takes no lock; several threads at once, each with another chunk and with
  // its own tools.
  absl::Status ApplyChunk(const VerifiedEpoch& epoch, uint32_t chunk, const Tools& tools) const;
  absl::Status ApplySlot(uint32_t slot_number, uint32_t verified_crc, const Tools& tools) const;
  absl::Status ApplyPlain(std::span<const std::byte> slot, const ChunkHeader& header,
                          uint32_t verified_crc, CodedFrameApplier* coded) const;
  absl::Status ApplyFrames(std::span<const std::byte> payload, CodedFrameApplier* coded) const;
  absl::Status ApplyRun(const Frame& frame) const;
  absl::Status ApplyCoded(const Frame& frame, CodedFrameApplier* coded) const;

  const std::span<const std::byte> region_;
  const JournalGeometry geometry_;
  std::vector<const GuestMemory*> memories_;
  const bool recheck_crc_;
  const bool sealed_;
  UniqueFd event_;

  mutable std::mutex mutex_;
  std::condition_variable work_;      // A chunk can be claimed, or stop_.
  std::condition_variable finished_;  // finished_count_ has grown.
  std::array<Job, kMaxUnappliedEpochs> jobs_{};
  uint64_t submitted_count_ = 0;  // Jobs ever submitted, done, popped.
  uint64_t finished_count_ = 0;
  uint64_t popped_count_ = 0;
  bool event_raised_ = false;  // event_ is readable.
  bool stop_ = false;
  absl::Status status_;

  // The first belongs to the caller, the others to the workers in the order in which they begin.
  std::vector<Tools> tools_;
  size_t workers_begun_ = 0;
  std::vector<pthread_t> workers_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_APPLIER_H_
