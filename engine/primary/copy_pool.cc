// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/copy_pool.h"

#include "engine/base/check.h"

namespace haven {

CopyPool::CopyPool(unsigned workers) {
  HAVEN_CHECK_LE(workers, kMaxWorkers);
  threads_.reserve(workers);
  for (unsigned i = 0; i < workers; ++i) threads_.emplace_back([this] { Work(); });
}

CopyPool::~CopyPool() {
  stop_.store(true, std::memory_order_relaxed);
  // The change of the number wakes the workers and makes them see stop_.
  job_.fetch_add(1);
  job_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace haven
