// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/state_capture.h"

#include <xen/hvm/params.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// The parameters of a migration stream. A guest may set only some of them (hvm_allow_set_param in
// the hypervisor); the others the toolstack sets when it builds the domain, and they are read once.
constexpr std::array<uint32_t, 12> kFixed = {HVM_PARAM_STORE_PFN,
                                             HVM_PARAM_IOREQ_PFN,
                                             HVM_PARAM_BUFIOREQ_PFN,
                                             HVM_PARAM_PAGING_RING_PFN,
                                             HVM_PARAM_MONITOR_RING_PFN,
                                             HVM_PARAM_SHARING_RING_PFN,
                                             HVM_PARAM_CONSOLE_PFN,
                                             HVM_PARAM_VIRIDIAN,
                                             HVM_PARAM_IDENT_PT,
                                             HVM_PARAM_IOREQ_SERVER_PFN,
                                             HVM_PARAM_NR_IOREQ_SERVER_PAGES,
                                             HVM_PARAM_MCA_CAP};
constexpr std::array<uint32_t, 4> kGuests = {
    HVM_PARAM_VM86_TSS_SIZED, HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_VM_GENERATION_ID_ADDR,
    HVM_PARAM_X87_FIP_WIDTH};
static_assert(kFixed.size() + kGuests.size() <= kMaxHvmParams);

// Appends a parameter; those that are 0 are left out, as in the toolstack's own streams.
absl::Status Append(XenDomainControl& control, uint32_t index, std::span<HvmParam> params,
                    size_t& count) {
  absl::StatusOr<uint64_t> value = control.HvmParam(index);
  if (!value.ok()) return std::move(value).status();
  if (*value != 0) params[count++] = {index, *value};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StateCapture> StateCapture::Create(XenDomainControl& control,
                                                  DeviceModel* device_model) {
  HAVEN_ASSIGN_OR_RETURN(const size_t context_bytes, control.HvmContextBytes());
  StateCapture capture(control, device_model, context_bytes);
  for (const uint32_t index : kFixed) {
    HAVEN_RETURN_IF_ERROR(Append(control, index, capture.params_, capture.fixed_params_));
  }
  return capture;
}

absl::StatusOr<size_t> StateCapture::Capture(std::span<std::byte> out) {
  XenRecordWriter writer(out);
  HAVEN_ASSIGN_OR_RETURN(const XenTscInfo tsc, control_->Tsc());
  PutXenTscInfo(writer, tsc);
  const std::span<std::byte> room = writer.Begin(XenRecordType::kHvmContext);
  if (!room.empty()) {
    // The hypervisor's library maps and copies as much as it is offered, and a device model's state
    // has far more room than this.
    HAVEN_ASSIGN_OR_RETURN(const size_t bytes,
                           control_->HvmContext(room.first(std::min(room.size(), context_bytes_))));
    writer.End(bytes);
  }
  size_t count = fixed_params_;
  for (const uint32_t index : kGuests) {
    HAVEN_RETURN_IF_ERROR(Append(*control_, index, params_, count));
  }
  PutHvmParams(writer, std::span(params_).first(count));
  if (device_model_ != nullptr) {
    // Last: it saves while all else is done.
    const std::span<std::byte> saved = writer.Begin(XenRecordType::kDeviceModel);
    HAVEN_ASSIGN_OR_RETURN(const size_t bytes, device_model_->Save(saved));
    writer.End(bytes);
  }
  if (!writer.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "domain ", control_->domid(), ": its state does not fit ", out.size(), " bytes"));
  }
  return writer.written().size();
}

}  // namespace haven
