// SPDX-License-Identifier: Apache-2.0
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/base/check.h"
#include "xen/output/netlink_channel.h"

namespace haven {

int NetlinkChannel::Begin(std::span<std::byte> datagram) {
  first_sequence_ = last_sequence_ + 1;
  error_ = 0;
  reason_[0] = '\0';
  ++transactions_;
  size_t offset = 0;
  while (offset < datagram.size()) {
    auto* header = reinterpret_cast<nlmsghdr*>(datagram.data() + offset);
    HAVEN_CHECK(header->nlmsg_len >= sizeof(nlmsghdr));
    header->nlmsg_seq = ++last_sequence_;
    offset += NLMSG_ALIGN(header->nlmsg_len);
  }
  return socket_->Send(datagram);
}

int NetlinkChannel::Transact(std::span<std::byte> datagram) {
  const int64_t deadline_ns = clock_.NowNs() + timeout_ns_;
  const int unsent = Begin(datagram);
  if (unsent != 0) return unsent;
  for (;;) {
    const NetlinkReceived received = socket_->Receive(buffer_, deadline_ns);
    if (received.error == EAGAIN) return ETIMEDOUT;
    // The answer may be among what was lost.
    if (received.error == ENOBUFS || received.error == EMSGSIZE) return ETIMEDOUT;
    if (received.error != 0) return received.error;
    if (TakeAnswers(std::span(buffer_).first(received.bytes))) return error_;
  }
}

int NetlinkChannel::Transact(std::span<std::byte> datagram, const Visitor& visit) {
  visitor_ = &visit;
  const int error = Transact(datagram);
  visitor_ = nullptr;
  return error;
}

bool NetlinkChannel::TakeAnswers(std::span<std::byte> datagram) {
  auto* header = reinterpret_cast<nlmsghdr*>(datagram.data());
  int left = static_cast<int>(datagram.size());
  for (; nlmsg_ok(header, left) != 0; header = nlmsg_next(header, &left)) {
    // Older numbers are answers that came after their deadline.
    const bool ours = header->nlmsg_seq - first_sequence_ <= last_sequence_ - first_sequence_;
    if (!ours) continue;
    if (header->nlmsg_type != NLMSG_ERROR) {
      if (visitor_ != nullptr) (*visitor_)(*header);
      continue;
    }
    TakeError(*header);
    if (header->nlmsg_seq == last_sequence_) return true;
  }
  return false;
}

void NetlinkChannel::TakeError(const nlmsghdr& header) {
  nlmsgerr answer = {};
  if (nlmsg_datalen(&header) < static_cast<int>(sizeof(answer))) {
    if (error_ == 0) error_ = EBADMSG;
    return;
  }
  std::memcpy(&answer, nlmsg_data(&header), sizeof(answer));
  if (answer.error == 0 || error_ != 0) return;
  error_ = -answer.error;
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return;
  // Without the request itself (NETLINK_CAP_ACK) the attributes follow at once.
  const nlattr* text =
      nlmsg_find_attr(const_cast<nlmsghdr*>(&header), sizeof(answer), NLMSGERR_ATTR_MSG);
  if (text == nullptr) return;
  const size_t bytes = std::min<size_t>(static_cast<size_t>(nla_len(text)), reason_.size() - 1);
  std::memcpy(reason_.data(), nla_data(text), bytes);
  reason_[bytes] = '\0';
}

}  // namespace haven
