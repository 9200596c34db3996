// SPDX-License-Identifier: Apache-2.0
//
// The requests to the kernel of which an output buffer is made (rtnetlink(7), tc(8), and
// net/sched/{sch_plug,act_mirred,act_gact,cls_matchall}.c of Linux).
#ifndef HAVEN_XEN_OUTPUT_OUTPUT_REQUESTS_H_
#define HAVEN_XEN_OUTPUT_OUTPUT_REQUESTS_H_

#include <cstdint>
#include <string>

#include "xen/output/netlink_socket.h"

namespace haven {

// The name of a plug as root of a device. A root with another name is not ours.
inline constexpr uint32_t kPlugHandle = 0x4856'0000;
// Our filter is the first of its device: no number is smaller.
inline constexpr uint32_t kFilterPreference = 1;

// A link by its name, or all links.
NetlinkBytes GetLinkRequest(const std::string& name);
NetlinkBytes DumpLinksRequest();

// An ifb with one queue, so that it keeps the order; down, as every new link.
NetlinkBytes CreateIfbRequest(const std::string& name);
// The host's own IPv6 has nothing to send there. An error where there is no IPv6.
NetlinkBytes SilenceIfbRequest(int ifindex);
// Up, with a description for people, and room for `queue_packets` between softirqs.
NetlinkBytes RaiseIfbRequest(int ifindex, const std::string& alias, uint32_t queue_packets);
NetlinkBytes DeleteLinkRequest(int ifindex);

// A closed plug as root of a device, in the place of any other root.
NetlinkBytes AddPlugRequest(int ifindex, uint32_t limit_bytes);
// TCQ_PLUG_BUFFER: what comes is held; and TCQ_PLUG_RELEASE_INDEFINITE: all goes. Neither touches a
// root that is not our plug.
NetlinkBytes ClosePlugRequest(int ifindex);
NetlinkBytes OpenPlugRequest(int ifindex);
// Several requests as one datagram; only the last is acknowledged.
NetlinkBytes Batch(const NetlinkBytes& first, const NetlinkBytes& second);

// The root of a device, with its statistics.
NetlinkBytes GetRootRequest(int ifindex);

// What is still on its way through a queue: in the plug, then in the ifb behind it.
NetlinkBytes PassageRequest(int ifindex);

// The place where filters for what comes from a device hang, and its end, with all of them.
NetlinkBytes AddIngressRequest(int ifindex);
NetlinkBytes DeleteIngressRequest(int ifindex);
NetlinkBytes DumpFiltersRequest(int ifindex);
NetlinkBytes GetIngressRequest(int ifindex);

// Everything that comes from `ifindex`, whatever its ethertype, is cloned to `target` and dropped.
// Cloning copies what lies in memory of a guest (skb_clone, skb_orphan_frags), and if it is not
// possible or `target` does not take it, the packet is dropped: the filter fails closed. `action`
// is the number of an existing redirection that is shared, or 0 for a new one.
NetlinkBytes AddFilterRequest(int ifindex, int target, uint32_t action);

NetlinkBytes DeleteFilterRequest(int ifindex);

// Points the redirection `action`, and with it all filters that share it, at another device.
NetlinkBytes RedirectRequest(uint32_t action, int target);
// Makes the other action of a filter drop what it gets.
NetlinkBytes DropRequest(uint32_t action);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_OUTPUT_REQUESTS_H_
