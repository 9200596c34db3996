// SPDX-License-Identifier: Apache-2.0
//
// The vCPU and device state of a PVH or PVHVM guest as an epoch carries it: three records of the
// migration stream, X86_TSC_INFO, HVM_CONTEXT and HVM_PARAMS, each once and in this order.
#ifndef HAVEN_XEN_BASE_STATE_H_
#define HAVEN_XEN_BASE_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xen/base/records.h"

namespace haven {

// As xc_domain_get_tsc_info() gives it.
struct XenTscInfo {
  uint32_t mode = 0;
  uint32_t khz = 0;
  uint64_t elapsed_ns = 0;
  uint32_t incarnation = 0;

  friend bool operator==(const XenTscInfo&, const XenTscInfo&) = default;
};

struct HvmParam {
  uint64_t index = 0;
  uint64_t value = 0;

  friend bool operator==(const HvmParam&, const HvmParam&) = default;
};

// More than Xen knows.
inline constexpr size_t kMaxHvmParams = 64;
inline constexpr size_t kXenTscInfoBytes = 24;

// Bytes of a state whose HVM context has `context_bytes` bytes, at most.
constexpr size_t MaxXenStateBytes(size_t context_bytes) {
  return XenRecordBytes(kXenTscInfoBytes) + XenRecordBytes(context_bytes) +
         XenRecordBytes(8 + 16 * kMaxHvmParams);
}

// A state is written by PutXenTscInfo(), writer.Begin() and End() of kHvmContext, PutHvmParams().
// None of them allocates.
void PutXenTscInfo(XenRecordWriter& writer, const XenTscInfo& tsc);
// At most kMaxHvmParams of them (checked).
void PutHvmParams(XenRecordWriter& writer, std::span<const HvmParam> params);

struct XenState {
  XenTscInfo tsc;
  std::span<const std::byte> hvm_context;  // A view of what was parsed.
  std::array<HvmParam, kMaxHvmParams> param_room;
  size_t param_count = 0;

  std::span<const HvmParam> params() const { return std::span(param_room).first(param_count); }
  // The value of a parameter, 0 if the state does not have it.
  uint64_t Param(uint64_t index) const;
};

// `bytes` outlives the result. InvalidArgument: not the three records in their order and nothing
// else, a body of another size than its count says, a parameter twice. What is in the context is
// not looked at (CheckHvmContext). Does not allocate if OK.
absl::StatusOr<XenState> ParseXenState(std::span<const std::byte> bytes);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_STATE_H_
