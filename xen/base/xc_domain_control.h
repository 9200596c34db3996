// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_XC_DOMAIN_CONTROL_H_
#define HAVEN_XEN_BASE_XC_DOMAIN_CONTROL_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "xen/base/domain_control.h"

namespace haven {

// XenDomainControl by libxenctrl, libxenguest and libxendevicemodel.
// Unavailable: this host runs no Xen, or this process may not use it. NotFound: no such domain.
absl::StatusOr<std::unique_ptr<XenDomainControl>> OpenXenDomain(uint32_t domid);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_XC_DOMAIN_CONTROL_H_
