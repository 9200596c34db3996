// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_STATUS_PAGE_H_
#define HAVEN_ENGINE_SYNTHETIC_STATUS_PAGE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/replica/identity.h"
#include "engine/synthetic/state.h"

namespace haven {

// One page of shared memory that the guest's process writes and the engine's maps read-only: what
// Domain, SuspendMethod and OutputBuffer must answer without blocking. Both sides are the same
// program, so it is used in place. All zero at first.
struct SyntheticStatusPage {
  // Id of the request for which the guest stands still; 0 while it runs.
  std::atomic<uint64_t> suspended_id;
  // DomainEnd.
  std::atomic<uint64_t> end;
  // Counts what ends log-dirty tracking or loses entries; equal values mean an unbroken log.
  std::atomic<uint64_t> log_dirty_breaks;
  // 1 while log-dirty tracking is on.
  std::atomic<uint64_t> log_dirty_on;
  // State record of the guest that stands still (state.h), written before suspended_id or end is.
  std::atomic<uint64_t> state_bytes;
  std::array<std::byte, kSyntheticMaxStateBytes> state;
  // When the output buffer was lost without a command (CLOCK_MONOTONIC in nanoseconds); 0 when that
  // never happened or it was rebuilt or removed since.
  std::atomic<uint64_t> gate_lost_ns;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(SyntheticStatusPage) <= kPageBytes);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_STATUS_PAGE_H_
