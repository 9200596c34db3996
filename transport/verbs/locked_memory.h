// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_LOCKED_MEMORY_H_
#define HAVEN_TRANSPORT_VERBS_LOCKED_MEMORY_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace haven {

// Registered memory is pinned, and pinned memory counts against RLIMIT_MEMLOCK unless the process
// has CAP_IPC_LOCK. The kernel's own answer to too much is a bare ENOMEM; so this is asked first.

struct LockedMemoryFacts {
  uint64_t limit_bytes = 0;   // RLIMIT_MEMLOCK, UINT64_MAX for none.
  uint64_t pinned_bytes = 0;  // By this process already, as far as the kernel shows it.
  bool may_exceed = false;    // CAP_IPC_LOCK in effect.
};

// Of this process; `proc` is where the kernel shows it. What can not be read counts as nothing
// pinned and no capability.
LockedMemoryFacts ReadLockedMemoryFacts(const std::string& proc = "/proc");

// OK if `bytes` more may be pinned. ResourceExhausted names `what`, the figures and the remedy.
absl::Status CheckLockedMemory(const LockedMemoryFacts& facts, uint64_t bytes,
                               absl::string_view what);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_LOCKED_MEMORY_H_
