// SPDX-License-Identifier: Apache-2.0
#include "engine/base/check.h"
#include "engine/primary/seal_stage.h"

namespace haven {

void SealStage::Seal(Epoch epoch, std::span<ChunkTotals> totals,
                     absl::FunctionRef<std::span<std::byte>(uint32_t index)> chunk,
                     CopyPool& pool) {
  HAVEN_CHECK_GT(epoch, last_epoch_);
  last_epoch_ = epoch;
  pool.Run(static_cast<uint32_t>(totals.size()), [&](uint32_t i) {
    Worker& worker = TakeWorker();
    totals[i].chunk_crc = worker.sealer->Seal(chunk(i));
    worker.taken.store(false, std::memory_order_release);
  });
}

SealStage::Worker& SealStage::TakeWorker() {
  for (;;) {
    for (const std::unique_ptr<Worker>& worker : workers_) {
      if (!worker->taken.exchange(true, std::memory_order_acquire)) return *worker;
    }
  }
}

}  // namespace haven
