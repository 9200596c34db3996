// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/seal_stage.h"

#include "absl/memory/memory.h"
#include "engine/base/status_macros.h"

namespace haven {

absl::StatusOr<std::unique_ptr<SealStage>> SealStage::Create(const SealKey& key, unsigned workers) {
  std::unique_ptr<SealStage> stage = absl::WrapUnique(new SealStage());
  for (unsigned i = 0; i < workers + 1; ++i) {
    auto worker = std::make_unique<Worker>();
    HAVEN_ASSIGN_OR_RETURN(worker->sealer, ChunkSealer::Create(key));
    stage->workers_.push_back(std::move(worker));
  }
  HAVEN_ASSIGN_OR_RETURN(stage->records_, ChunkSealer::Create(key));
  return stage;
}

}  // namespace haven
