// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/copy_pool.h"

#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/check.h"
#include "engine/base/log.h"

namespace haven {

CopyPool::CopyPool(unsigned workers) {
  HAVEN_CHECK_LE(workers, kMaxWorkers);
  threads_.reserve(workers);
  for (unsigned i = 0; i < workers; ++i) {
    absl::StatusOr<Thread> thread = Thread::Start("haven-copy", [this] { Work(); });
    if (!thread.ok()) {
      HAVEN_LOG(kWarning, "engine")
          << "epochs are copied by " << i << " threads fewer than " << workers
          << " beside the engine's own: " << thread.status().message();
      return;
    }
    threads_.push_back(*std::move(thread));
  }
}

CopyPool::~CopyPool() {
  stop_.store(true, std::memory_order_relaxed);
  // The change of the number wakes the workers and makes them see stop_.
  job_.fetch_add(1);
  job_.notify_all();
  threads_.clear();
}

}  // namespace haven
