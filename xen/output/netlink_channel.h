// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_NETLINK_CHANNEL_H_
#define HAVEN_XEN_OUTPUT_NETLINK_CHANNEL_H_

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/clock.h"
#include "xen/output/netlink_socket.h"

namespace haven {

// Requests to the kernel and their answers. Every request is acknowledged, and the wait for the
// acknowledgement has a deadline; what a late one says is never taken for the answer to a later
// request. Not thread-safe.
class NetlinkChannel {
 public:
  // Waits at most `timeout_ns` for an answer.
  NetlinkChannel(std::unique_ptr<NetlinkSocket> socket, const Clock& clock, int64_t timeout_ns);

  // Sends a datagram of requests, of which the last asks for an acknowledgement, and waits for it.
  // 0: all are carried out. Otherwise the first error, an errno, or ETIMEDOUT: whether they are
  // carried out is unknown. Two system calls; allocates nothing (netlink_channel_datapath.cc).
  int Transact(std::span<std::byte> datagram);

  // The same, and shows the messages of the answers to `visit`.
  using Visitor = std::function<void(nlmsghdr&)>;
  int Transact(std::span<std::byte> datagram, const Visitor& visit);

  // The same with words: NotFound (ENOENT, ENODEV), AlreadyExists, PermissionDenied, Unimplemented
  // (EOPNOTSUPP), DeadlineExceeded, FailedPrecondition (any other). `what` says what was tried.
  absl::Status Command(NetlinkBytes request, absl::string_view what);

  // Asks, and shows each message of the answer. `request` asks for an acknowledgement.
  absl::Status Get(NetlinkBytes request, const Visitor& visit, absl::string_view what);

  // Asks for a list. Aborted: it kept changing while the kernel wrote it.
  absl::Status Dump(const NetlinkBytes& request, const Visitor& visit, absl::string_view what);

  // The errno of Transact in words.
  absl::Status Explain(int error, absl::string_view what) const;

  const NetlinkSocket& socket() const { return *socket_; }
  uint64_t transactions() const { return transactions_; }

 private:
  // Gives the datagram's requests their numbers and sends it. 0 or an errno.
  int Begin(std::span<std::byte> datagram);
  // Takes what belongs to the present requests out of a datagram. True when the last is answered.
  bool TakeAnswers(std::span<std::byte> datagram);
  // Remembers what an error message says.
  void TakeError(const nlmsghdr& header);
  absl::Status DumpOnce(const NetlinkBytes& request, const Visitor& visit, absl::string_view what,
                        bool& interrupted);

  const std::unique_ptr<NetlinkSocket> socket_;
  const Clock& clock_;
  const int64_t timeout_ns_;
  uint32_t first_sequence_ = 0;  // Of the requests under way.
  uint32_t last_sequence_ = 0;
  int error_ = 0;  // The first of them.
  std::array<char, 160> reason_ = {};
  uint64_t transactions_ = 0;
  std::vector<std::byte> buffer_;
  const Visitor* visitor_ = nullptr;
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_NETLINK_CHANNEL_H_
