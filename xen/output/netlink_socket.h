// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_NETLINK_SOCKET_H_
#define HAVEN_XEN_OUTPUT_NETLINK_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace haven {

// One or more netlink messages as they go into a datagram; the sequence numbers are the channel's.
using NetlinkBytes = std::vector<std::byte>;

// What one receive has given.
struct NetlinkReceived {
  size_t bytes = 0;  // Of one datagram.
  // 0, or why there is none: EAGAIN (none came in time), ENOBUFS (the kernel had no room and has
  // dropped some), EMSGSIZE (larger than the buffer; it is lost), or what recvmsg(2) said.
  int error = 0;
};

// A route netlink socket: the seam between what is said to the kernel and the kernel. Used by one
// thread at a time. Send and Receive allocate nothing.
class NetlinkSocket {
 public:
  virtual ~NetlinkSocket() = default;

  // Hands one datagram of one or more requests to the kernel, which has carried them out when this
  // returns. 0, or the errno of a datagram that the kernel did not look at. May wait for the
  // kernel's lock of its network configuration; nothing can bound that from here.
  virtual int Send(std::span<const std::byte> datagram) = 0;

  // The next datagram from the kernel. `deadline_ns` is a time of Clock::NowNs; 0 does not wait.
  virtual NetlinkReceived Receive(std::span<std::byte> buffer, int64_t deadline_ns) = 0;

  // The address by which the kernel knows this socket, and which events name as their cause.
  virtual uint32_t port() const = 0;
};

// The largest datagram that the kernel sends to these sockets: its own limit for dumps.
inline constexpr size_t kNetlinkReceiveBytes = 32 * 1024;

// For requests. PermissionDenied or Unavailable with what socket(2) said.
absl::StatusOr<std::unique_ptr<NetlinkSocket>> OpenNetlinkRequests();

// For the events of links and traffic control, without those caused by the socket `own_port`.
absl::StatusOr<std::unique_ptr<NetlinkSocket>> OpenNetlinkEvents(uint32_t own_port);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_NETLINK_SOCKET_H_
