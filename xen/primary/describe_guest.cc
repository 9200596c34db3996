// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/describe_guest.h"

#include <xen/hvm/params.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "xen/base/description.h"
#include "xen/base/frame_runs.h"
#include "xen/primary/state_capture.h"

namespace haven {

absl::StatusOr<std::string> DescribeGuest(XenDomainControl& control, const RamMap& map,
                                          const DeviceModel* device_model,
                                          const XenToolstackConfig& config) {
  XenDescription description;
  if (device_model != nullptr) description.device_model = device_model->version();
  description.max_vcpus = config.max_vcpus;
  description.config_json = config.json;
  std::vector<uint64_t> frames = map.ram;
  for (const uint64_t frame : map.special) frames[frame / 64] |= uint64_t{1} << (frame % 64);
  for (FrameRange run = NextFrameRange(frames, 0, map.frame_count); !run.empty();
       run = NextFrameRange(frames, run.end, map.frame_count)) {
    description.frames.push_back({run.first, run.end - run.first});
  }
  HAVEN_ASSIGN_OR_RETURN(XenCpuPolicy policy, control.CpuPolicy());
  description.cpuid_policy = std::move(policy.cpuid);
  description.msr_policy = std::move(policy.msr);
  // Without the device model, which runs and saves nothing now.
  HAVEN_ASSIGN_OR_RETURN(StateCapture state, StateCapture::Create(control, nullptr));
  description.first_state.resize(state.max_bytes());
  HAVEN_ASSIGN_OR_RETURN(const size_t bytes, state.Capture(description.first_state));
  description.first_state.resize(bytes);
  return EncodeXenDescription(description);
}

absl::StatusOr<uint64_t> CanaryFrame(const std::string& name, XenDomainControl& control,
                                     const RamMap& map) {
  for (const uint32_t param :
       {HVM_PARAM_PAGING_RING_PFN, HVM_PARAM_SHARING_RING_PFN, HVM_PARAM_MONITOR_RING_PFN}) {
    HAVEN_ASSIGN_OR_RETURN(const uint64_t frame, control.HvmParam(param));
    if (std::binary_search(map.special.begin(), map.special.end(), frame)) return frame;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "guest ", name,
      " can not be protected: it has no page of the kind that guards its log of "
      "dirty pages (the rings for memory introspection): was it built by another toolstack?"));
}

}  // namespace haven
