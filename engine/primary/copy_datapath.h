// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_PRIMARY_COPY_DATAPATH_H_
#define HAVEN_ENGINE_PRIMARY_COPY_DATAPATH_H_

#include <cstddef>
#include <span>

#include "engine/primary/copy_pool.h"
#include "engine/primary/dirty_sets.h"
#include "engine/primary/epoch_plan.h"

namespace haven {

// Copies the pages of the plan from the guests' memories to their places in `staging` (the plan's
// slots one after the other), one slot an item of `pool`, adjacent pages as one. `sets` is what the
// plan was made from. The guests may be running: then a page may be copied while it changes, and
// counts as dirty again. Does not allocate.
void CopyPages(const EpochPlan& plan, const DirtySets& sets, std::span<std::byte> staging,
               CopyPool& pool);

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_COPY_DATAPATH_H_
