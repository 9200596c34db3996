// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_LEFT_DEVICE_MODEL_H_
#define HAVEN_XEN_BASE_LEFT_DEVICE_MODEL_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "xen/base/store.h"

namespace haven {

// Kills the QEMU of a domain that went without its toolstack: it would spin for good. `pid` is what
// the store says, and may be another process by now: that one lives. NotFound: there is no such
// process, or it is not QEMU for `domid`. Internal: the kernel refused.
absl::Status KillLeftDeviceModel(pid_t pid, uint32_t domid);

// The same of the process that the store names for the domain. OK also if there is none.
absl::Status KillLeftDeviceModel(XenStore& store, uint32_t domid);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_LEFT_DEVICE_MODEL_H_
