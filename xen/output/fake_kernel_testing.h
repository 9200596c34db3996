// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_FAKE_KERNEL_TESTING_H_
#define HAVEN_XEN_OUTPUT_FAKE_KERNEL_TESTING_H_

#include <linux/netlink.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/manual_clock.h"
#include "xen/output/netlink_socket.h"

namespace haven {

// As much of Linux' links and traffic control as an output buffer uses, behind sockets that fail
// when they are told to. Packets are counted only. One thread.
class FakeKernel {
 public:
  struct Link {
    std::string name;
    std::string kind;
    std::string alias;
    std::string back_end;  // Of a guest's NIC, on the bus of Xen's back ends.
    bool up = false;
    bool xdp = false;
    std::string root;  // The kind of a root qdisc that was set.
    bool open = false;
    uint64_t held = 0;
    uint64_t passed = 0;
    uint64_t dropped = 0;
    std::string ingress;
    // Of a filter: its preference, and its actions.
    uint32_t preference = 0;
    uint32_t redirection = 0;
    uint32_t drop = 0;
  };

  explicit FakeKernel(ManualClock& clock) : clock_(clock) {}

  int AddLink(const std::string& name, const std::string& kind = "");
  void RemoveLink(const std::string& name);
  // Nullptr: there is none.
  Link* link(const std::string& name);
  int ifindex(const std::string& name) const;

  // A packet from a NIC. True: it has left.
  bool Packet(const std::string& nic);

  std::unique_ptr<NetlinkSocket> Requests();
  std::unique_ptr<NetlinkSocket> Events();

  // Announces something to the events' socket; an errno instead of bytes is what it says then.
  void Announce(NetlinkBytes event) { events_.push_back({std::move(event), 0}); }
  void AnnounceError(int error) { events_.push_back({{}, error}); }

  // What befalls the requests of one type: an error without effect, or an effect without answer.
  std::map<int, int> fails;
  std::map<int, int> unanswered;  // How many more of them.
  bool stuck = false;             // Open plugs keep what they hold.
  int64_t answer_ns = 0;          // How long an answer takes.

  std::map<uint32_t, int> redirections;  // Where they point, by number.
  std::map<uint32_t, int> verdicts;      // What the other actions do.
  std::map<int, int> requests;           // How many came, by type.

 private:
  friend class FakeSocket;
  struct Datagram {
    NetlinkBytes bytes;
    int error = 0;
  };

  void Receive(std::span<const std::byte> datagram);
  // Carries one request out; adds what it asks for to `answers_`. An errno.
  int CarryOut(nlmsghdr& request);
  int ChangeLink(nlmsghdr& request);
  int ReadLinks(nlmsghdr& request);
  int ChangeQdisc(nlmsghdr& request);
  int ReadQdisc(nlmsghdr& request);
  int ReadStats(nlmsghdr& request);
  int ChangeFilter(nlmsghdr& request);
  int ReadFilters(nlmsghdr& request);
  int ChangeAction(nlmsghdr& request);
  void Settle(Link& link);
  void Answer(NetlinkBytes message, uint32_t sequence);

  ManualClock& clock_;
  int next_ifindex_ = 10;
  uint32_t next_action_ = 1;
  std::map<int, Link> links_;
  std::deque<Datagram> answers_;
  std::deque<Datagram> events_;
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_FAKE_KERNEL_TESTING_H_
