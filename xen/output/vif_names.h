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
// vifDOMID.N-emu for the card that a device model emulates. A name that the administrator has
// chosen (vifname=) stands in xenstore only, in the back end's directory: whoever reads it there
// passes it on like these.
bool IsVifOfDomain(absl::string_view name, uint32_t domid);

// The devices of this host with such a name, sorted. Unavailable: the kernel does not list them.
absl::StatusOr<std::vector<std::string>> FindVifs(uint32_t domid);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_VIF_NAMES_H_
