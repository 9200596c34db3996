// SPDX-License-Identifier: Apache-2.0
//
// The threads that share the copying and encoding of an epoch.
#ifndef HAVEN_ENGINE_PRIMARY_COPY_POOL_H_
#define HAVEN_ENGINE_PRIMARY_COPY_POOL_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "engine/base/thread.h"

namespace haven {

// Runs the items of a job on the calling thread and on a fixed number of workers. With no workers
// everything runs inline, in order, in the caller: deterministic.
//
// A worker that has nothing to do spins for some tens of microseconds, so that the next job of the
// same epoch finds it awake, and then sleeps in the kernel. A worker that wakes late is not waited
// for: the caller works through the items itself and waits only for those that a worker has begun.
class CopyPool {
 public:
  static constexpr unsigned kMaxWorkers = 64;

  // Starts `workers` threads beside the caller: 0 to kMaxWorkers (checked). Where the host has no
  // thread left there are fewer of them, which the log says: it takes longer, that is all.
  explicit CopyPool(unsigned workers);
  ~CopyPool();
  CopyPool(const CopyPool&) = delete;
  CopyPool& operator=(const CopyPool&) = delete;

  // Calls item(i) once for each i in [0, items) and returns when all have returned. Items run in
  // any order, on any thread, at the same time. What the caller wrote before is visible to the
  // items, and what they wrote to the caller afterwards. Allocates nothing, takes no lock. One
  // caller at a time.
  template <typename Item>
  void Run(uint32_t items, const Item& item) {
    RunItems(
        items, [](const void* context, uint32_t i) { (*static_cast<const Item*>(context))(i); },
        &item);
  }

  unsigned workers() const { return static_cast<unsigned>(threads_.size()); }

 private:
  using ItemFunction = void (*)(const void* context, uint32_t item);

  // Keeps what different threads write out of one another's cache lines, without asking for an
  // alignment that the owner of a pool would have to grant.
  using CacheLine = std::array<std::byte, 64>;

  void RunItems(uint32_t items, ItemFunction function, const void* context);
  bool RunOneItem();
  void Work();
  uint32_t WaitForJob(uint32_t seen_job);

  // The current job. Written by the caller before claims_ is set, and not before all items of the
  // job before are done; read by a thread only after it has claimed an item, which holds the job
  // up.
  ItemFunction function_ = nullptr;
  const void* context_ = nullptr;
  uint32_t items_ = 0;

  // Job number in the upper half, items that nobody has claimed in the lower half. The number keeps
  // a late worker of one job from claiming an item of another by a stale compare-and-exchange.
  std::atomic<uint64_t> claims_{0};
  CacheLine apart_claims_;
  std::atomic<uint32_t> done_{0};  // Items of the current job that have returned.
  CacheLine apart_done_;
  std::atomic<uint32_t> job_{0};  // Number of the current job: what workers wait on.
  std::atomic<bool> stop_{false};

  std::vector<Thread> threads_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_COPY_POOL_H_
