// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/copy_pool.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace haven {
namespace {

// Rounds of spinning before a thread sleeps; a round is some tens of nanoseconds.
constexpr int kSpinRounds = 1000;

void SpinOnce() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#endif
}

}  // namespace

void CopyPool::RunItems(uint32_t items, ItemFunction function, const void* context) {
  if (threads_.empty() || items <= 1) {
    for (uint32_t i = 0; i < items; ++i) function(context, i);
    return;
  }
  function_ = function;
  context_ = context;
  items_ = items;
  done_.store(0, std::memory_order_relaxed);
  // Only the caller writes the number, so a plain read and store would do; the read-modify-write
  // also orders it before the look at the waiters inside notify_all.
  const uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  claims_.store(uint64_t{job} << 32 | items, std::memory_order_release);
  job_.fetch_add(1);
  job_.notify_all();

  while (RunOneItem()) {
  }
  for (int round = 0; round < kSpinRounds; ++round) {
    if (done_.load(std::memory_order_acquire) == items) return;
    SpinOnce();
  }
  for (uint32_t done = done_.load(std::memory_order_acquire); done != items;
       done = done_.load(std::memory_order_acquire)) {
    done_.wait(done, std::memory_order_acquire);
  }
}

// Claims one item of whatever job is the current one and runs it; false if none is left to claim.
bool CopyPool::RunOneItem() {
  uint64_t claims = claims_.load(std::memory_order_acquire);
  do {
    if (static_cast<uint32_t>(claims) == 0) return false;
  } while (!claims_.compare_exchange_weak(claims, claims - 1, std::memory_order_acquire,
                                          std::memory_order_acquire));
  // From here on the job can not end, and its description can not change, before done_ counts this
  // item.
  const uint32_t left = static_cast<uint32_t>(claims);
  const uint32_t items = items_;
  function_(context_, items - left);
  if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == items) done_.notify_one();
  return true;
}

// Returns the number of a job other than `seen_job`, the last one this worker knows of.
uint32_t CopyPool::WaitForJob(uint32_t seen_job) {
  for (int round = 0; round < kSpinRounds; ++round) {
    const uint32_t job = job_.load(std::memory_order_acquire);
    if (job != seen_job) return job;
    SpinOnce();
  }
  job_.wait(seen_job, std::memory_order_acquire);
  return job_.load(std::memory_order_acquire);
}

void CopyPool::Work() {
  uint32_t job = 0;
  for (;;) {
    job = WaitForJob(job);
    if (stop_.load(std::memory_order_relaxed)) return;
    while (RunOneItem()) {
    }
  }
}

}  // namespace haven
