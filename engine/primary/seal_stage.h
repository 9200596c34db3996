// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_PRIMARY_SEAL_STAGE_H_
#define HAVEN_ENGINE_PRIMARY_SEAL_STAGE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/primary/copy_pool.h"
#include "engine/replica/chunk.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/identity.h"

namespace haven {

// Seals the chunks of one epoch after the other, on all threads of a pool: the last step of
// encoding. No nonce is used twice, because no epoch is sealed twice (checked). Does not allocate
// after Create(). Used by one thread.
class SealStage {
 public:
  // For a pool of `workers` threads beside the caller. Errors of ChunkSealer::Create.
  static absl::StatusOr<std::unique_ptr<SealStage>> Create(const SealKey& key, unsigned workers);

  // Seals all chunks of an epoch, in place, and sets their CRCs. `chunk` gives the memory of each
  // and is called from several threads. `epoch` is above all before (checked).
  void Seal(Epoch epoch, std::span<ChunkTotals> totals,
            absl::FunctionRef<std::span<std::byte>(uint32_t index)> chunk, CopyPool& pool);

  // For the commit records of these epochs.
  ChunkSealer& records() { return *records_; }

 private:
  struct Worker {
    std::unique_ptr<ChunkSealer> sealer;
    std::atomic<bool> taken{false};
  };

  SealStage() = default;
  Worker& TakeWorker();

  std::vector<std::unique_ptr<Worker>> workers_;  // One for each thread that can ask.
  std::unique_ptr<ChunkSealer> records_;
  Epoch last_epoch_ = kNoEpoch;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_SEAL_STAGE_H_
