// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_VIF_NAMES_H_
#define HAVEN_XEN_OUTPUT_VIF_NAMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// True for the names that Xen's toolstack gives to the NICs of a domain: vifDOMID.N, and
// vifDOMID.N-emu for the card that a device model emulates.
bool HasVifName(absl::string_view name, uint32_t domid);

// True for a NIC of the domain, whatever it is called: one with such a name, or with another that
// the administrator has chosen (vifname=), which the kernel shows as the back end vif-DOMID-N.
// `devices` is where the kernel shows its network devices.
bool IsVifOfDomain(const std::string& name, uint32_t domid,
                   const std::string& devices = "/sys/class/net");

// The NICs of the domain on this host, sorted. Unavailable: the kernel does not list them.
absl::StatusOr<std::vector<std::string>> FindVifs(uint32_t domid);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_VIF_NAMES_H_
