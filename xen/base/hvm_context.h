// SPDX-License-Identifier: Apache-2.0
//
// The body of an HVM_CONTEXT record: what Xen's XEN_DOMCTL_gethvmcontext gives and sethvmcontext
// takes (xen/include/public/hvm/save.h). Entries of {typecode u16, instance u16, length u32, body},
// the first a header, the last an end mark.
#ifndef HAVEN_XEN_BASE_HVM_CONTEXT_H_
#define HAVEN_XEN_BASE_HVM_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace haven {

// An empty context of the same Xen and processor: header and end mark.
inline constexpr size_t kEmptyHvmContextBytes = 8 + 24 + 8;

// The hypervisor has fewer.
inline constexpr uint32_t kMaxHvmVcpus = 4096;

struct HvmContextShape {
  uint32_t vcpus = 0;  // Those that have registers in it: the ones that are online.
};

// What `context` holds for a guest with `max_vcpus` vCPUs, at most kMaxHvmVcpus (checked). Does not
// allocate if OK. InvalidArgument: its entries do not fit
// its bytes, it does not begin with one header and end with the end mark, a vCPU is there twice,
// has no registers or a number of max_vcpus or more, or none is there.
absl::StatusOr<HvmContextShape> CheckHvmContext(std::span<const std::byte> context,
                                                uint32_t max_vcpus);

// Writes the header of `context` and an end mark to `empty`. A domain that was given such a context
// has all its vCPUs offline: unpaused by mistake, nothing runs. InvalidArgument: `context` does not
// begin with a header.
absl::Status EmptyHvmContext(std::span<const std::byte> context,
                             std::span<std::byte, kEmptyHvmContextBytes> empty);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_HVM_CONTEXT_H_
