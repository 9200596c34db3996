// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_MEMORY_BUDGET_H_
#define HAVEN_TRANSPORT_MEMORY_BUDGET_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// Regions are prefaulted. Asking for more than there is would not fail: the kernel would kill some
// process of the host, maybe a guest's. So who takes much, a transport or the codec, asks here
// before it allocates.

// Where the kernel shows its memory; tests put other folders here.
struct MemoryBudgetRoots {
  std::string proc = "/proc";
  std::string cgroup = "/sys/fs/cgroup";
};

// What stays free for everybody else, in bytes.
inline constexpr uint64_t kMemoryReserveBytes = uint64_t{64} << 20;

// Bytes that this process can still take without anybody being killed: MemAvailable of the host,
// and no more than any memory control group above the process (version 2 or 1) leaves, page cache
// that can be dropped counted as free. FailedPrecondition: /proc/meminfo can not be understood.
absl::StatusOr<uint64_t> AvailableMemoryBytes(const MemoryBudgetRoots& roots = {});

// OK if `bytes` and the reserve are available now. ResourceExhausted: they are not; the message
// names `what`, the two figures and what to do, of which `remedy` is what wants less. A snapshot,
// not a reservation.
absl::Status CheckMemoryFor(uint64_t bytes, absl::string_view what,
                            const MemoryBudgetRoots& roots = {},
                            absl::string_view remedy = "ask for a smaller region");

}  // namespace haven

#endif  // HAVEN_TRANSPORT_MEMORY_BUDGET_H_
