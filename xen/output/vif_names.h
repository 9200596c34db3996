// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_VIF_NAMES_H_
#define HAVEN_XEN_OUTPUT_VIF_NAMES_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "xen/output/netlink_channel.h"
#include "xen/output/output_answers.h"

namespace haven {

// True for the names that Xen's toolstack gives to the NICs of a domain: vifDOMID.N, and
// vifDOMID.N-emu for the card that a device model emulates.
bool IsVifOfDomain(absl::string_view name, uint32_t domid);

// Whether a device is a NIC of one of these domains: by the back end that it belongs to, since its
// name may be one that the administrator has chosen (vifname=), or by its name.
bool IsNicOf(const LinkAnswer& link, std::span<const uint32_t> domains);

// The name of the NIC whose emulated card a device of this name is, if there is such a NIC; empty:
// none. Xen's scripts call the card so also where the administrator has named the NIC, and it has
// no back end to know it by.
absl::string_view NicBesideEmulated(absl::string_view name);

// The names of these NICs on this host, emulated ones too, sorted. Errors of NetlinkChannel::Dump.
absl::StatusOr<std::vector<std::string>> FindNics(NetlinkChannel& channel,
                                                  std::span<const uint32_t> domains);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_VIF_NAMES_H_
