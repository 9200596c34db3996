// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_NETLINK_MESSAGE_H_
#define HAVEN_XEN_OUTPUT_NETLINK_MESSAGE_H_

#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/check.h"
#include "xen/output/netlink_socket.h"

namespace haven {

// Builds one request. Control path: allocates. Sizes are those of the caller's own constants and of
// names that were checked before, so running out of room is a broken assumption.
class NetlinkMessage {
 public:
  // `flags` beside NLM_F_REQUEST. `header` is the family's own: ifinfomsg, tcmsg, tcamsg.
  template <typename Header>
  NetlinkMessage(int type, int flags, const Header& header)
      : message_(nlmsg_alloc_simple(type, NLM_F_REQUEST | flags)) {
    HAVEN_CHECK(message_ != nullptr);
    Header copy = header;
    HAVEN_CHECK_EQ(nlmsg_append(message_.get(), &copy, sizeof(copy), NLMSG_ALIGNTO), 0);
  }

  template <typename Value>
  NetlinkMessage& Put(int type, const Value& value) {
    HAVEN_CHECK_EQ(nla_put(message_.get(), type, sizeof(value), &value), 0);
    return *this;
  }

  NetlinkMessage& PutString(int type, const std::string& text) {
    HAVEN_CHECK_EQ(nla_put_string(message_.get(), type, text.c_str()), 0);
    return *this;
  }

  // Attributes up to End are inside this one.
  NetlinkMessage& Begin(int type) {
    nests_.push_back(nla_nest_start(message_.get(), type));
    HAVEN_CHECK(nests_.back() != nullptr);
    return *this;
  }

  NetlinkMessage& End() {
    nla_nest_end(message_.get(), nests_.back());
    nests_.pop_back();
    return *this;
  }

  NetlinkBytes Take() const {
    HAVEN_CHECK(nests_.empty());
    const nlmsghdr* header = nlmsg_hdr(message_.get());
    const auto* begin = reinterpret_cast<const std::byte*>(header);
    NetlinkBytes bytes(begin, begin + header->nlmsg_len);
    bytes.resize(NLMSG_ALIGN(bytes.size()));
    return bytes;
  }

 private:
  struct Free {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
  };

  std::unique_ptr<nl_msg, Free> message_;
  std::vector<nlattr*> nests_;
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_NETLINK_MESSAGE_H_
