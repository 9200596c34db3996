// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_DESCRIBE_GUEST_H_
#define HAVEN_XEN_PRIMARY_DESCRIBE_GUEST_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "xen/base/device_model.h"
#include "xen/base/domain_control.h"
#include "xen/base/ram_map.h"
#include "xen/primary/refusals.h"

namespace haven {

// What a backup must know of a guest to build its copy, as EncodeXenDescription() has it. The guest
// may run; `device_model` is asked for its version alone and may be null. Errors of `control`;
// InvalidArgument: it is more than a description may say.
absl::StatusOr<std::string> DescribeGuest(XenDomainControl& control, const RamMap& map,
                                          const DeviceModel* device_model,
                                          const XenToolstackConfig& config);

// A frame that is memory, belongs to no epoch, and that nobody writes: a ring for introspection.
// Errors of `control`; FailedPrecondition, naming the guest: it has none.
absl::StatusOr<uint64_t> CanaryFrame(const std::string& name, XenDomainControl& control,
                                     const RamMap& map);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_DESCRIBE_GUEST_H_
