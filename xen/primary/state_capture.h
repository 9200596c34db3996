// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_STATE_CAPTURE_H_
#define HAVEN_XEN_PRIMARY_STATE_CAPTURE_H_

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "xen/base/device_model.h"
#include "xen/base/domain_control.h"
#include "xen/base/state.h"

namespace haven {

// Reads the vCPU and device state of a domain as records (xen/base/state.h), that of its device
// model included if it has one. One thread.
class StateCapture {
 public:
  // Reads what the guest can not change. `control` and `device_model`, which may be null, outlive
  // this. Errors of the control.
  static absl::StatusOr<StateCapture> Create(XenDomainControl& control, DeviceModel* device_model);

  // Upper bound of Capture(), fixed.
  size_t max_bytes() const { return MaxXenStateBytes(context_bytes_, device_model_ != nullptr); }

  // Writes the state to the front of `out` and returns its size. Allocates nothing if OK. The
  // device model must have been asked to stop. ResourceExhausted: `out` is too small; else errors
  // of the control and of DeviceModel::Save.
  absl::StatusOr<size_t> Capture(std::span<std::byte> out);

 private:
  StateCapture(XenDomainControl& control, DeviceModel* device_model, size_t context_bytes)
      : control_(&control), device_model_(device_model), context_bytes_(context_bytes) {}

  XenDomainControl* control_;
  DeviceModel* device_model_;
  size_t context_bytes_;
  // Those the guest can not change, then room for those it can.
  std::array<HvmParam, kMaxHvmParams> params_ = {};
  size_t fixed_params_ = 0;
};

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_STATE_CAPTURE_H_
