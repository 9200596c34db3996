// SPDX-License-Identifier: Apache-2.0
//
// The vCPU and device state of a PVH or PVHVM guest as an epoch carries it: three records of the
// migration stream, X86_TSC_INFO, HVM_CONTEXT and HVM_PARAMS, each once and in this order. If the
// guest has a device model (QEMU), a fourth follows with what that saves of its devices.
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

// A device model whose devices have no disk transfer under way saves less than 80 KiB; one such
// transfer is 128 KiB.
inline constexpr size_t kMaxDeviceModelBytes = size_t{1} << 20;

// Bytes of a state whose HVM context has `context_bytes` bytes, at most; `device_model`: it has
// one.
constexpr size_t MaxXenStateBytes(size_t context_bytes, bool device_model = false) {
  return XenRecordBytes(kXenTscInfoBytes) + XenRecordBytes(context_bytes) +
         XenRecordBytes(8 + 16 * kMaxHvmParams) +
         (device_model ? XenRecordBytes(kMaxDeviceModelBytes) : 0);
}

// A state is written by PutXenTscInfo(), writer.Begin() and End() of kHvmContext, PutHvmParams(),
// and those of kDeviceModel if there is one. None of them allocates.
void PutXenTscInfo(XenRecordWriter& writer, const XenTscInfo& tsc);
// At most kMaxHvmParams of them (checked).
void PutHvmParams(XenRecordWriter& writer, std::span<const HvmParam> params);

struct XenState {
  XenTscInfo tsc;
  std::span<const std::byte> hvm_context;  // A view of what was parsed.
  std::array<HvmParam, kMaxHvmParams> param_room;
  size_t param_count = 0;
  std::span<const std::byte> device_model;  // As hvm_context; empty: the guest has none.

  std::span<const HvmParam> params() const { return std::span(param_room).first(param_count); }
  // The value of a parameter, 0 if the state does not have it.
  uint64_t Param(uint64_t index) const;
};

// `bytes` outlives the result. InvalidArgument: not the three or four records in their order and
// nothing else, a body of another size than its count says, a parameter twice, a device model's
// state that is none (CheckDeviceModelState). What is in the context is not looked at
// (CheckHvmContext). Does not allocate if OK.
absl::StatusOr<XenState> ParseXenState(std::span<const std::byte> bytes);

// InvalidArgument: `state` is not what QEMU's xen-save-devices-state writes, as far as can be told
// without QEMU: magic and version at the front (migration/qemu-file-types.h, big-endian), the end
// mark, 9 bytes to kMaxDeviceModelBytes. Does not allocate if OK.
absl::Status CheckDeviceModelState(std::span<const std::byte> state);

// Such a state of no device at all, which a QEMU can load.
inline constexpr std::array<std::byte, 9> kEmptyDeviceModelState = {
    std::byte{'Q'}, std::byte{'E'}, std::byte{'V'}, std::byte{'M'}, std::byte{0},
    std::byte{0},   std::byte{0},   std::byte{3},   std::byte{0}};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_STATE_H_
