// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says about links and traffic control, as far as an output buffer asks.
#ifndef HAVEN_XEN_OUTPUT_OUTPUT_ANSWERS_H_
#define HAVEN_XEN_OUTPUT_OUTPUT_ANSWERS_H_

#include <linux/netlink.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace haven {

struct LinkAnswer {
  int ifindex = 0;
  bool up = false;   // As the administrator wants it; the carrier is not looked at.
  bool xdp = false;  // A program sees packets before any filter.
  std::string name;
  std::string alias;
  std::string kind;      // Empty for devices of no kind.
  std::string back_end;  // Of a guest's NIC: "vif-DOMID-N", whatever the device is called.
};

struct QdiscAnswer {
  int ifindex = 0;
  uint32_t parent = 0;
  uint32_t handle = 0;
  std::string kind;
  uint64_t held_packets = 0;
  uint64_t held_bytes = 0;
  uint64_t passed_packets = 0;
  uint64_t dropped_packets = 0;
};

struct FilterAnswer {
  int ifindex = 0;
  uint32_t parent = 0;
  uint32_t preference = 0;
  bool header = false;  // Only announces the filters of one preference.
  // Of a filter of ours, by its place and its two actions.
  struct Ours {
    uint32_t redirection = 0;  // The number of the shared action,
    int target = 0;            // and where it points; 0: to a device that is gone.
    uint32_t drop = 0;         // The number of the other action.
    bool intact = false;       // Both do what AddFilterRequest asked for.
  };
  std::optional<Ours> ours;
};

// One part of a queue: the plug, or the ifb behind it.
struct PassageAnswer {
  uint64_t inside_packets = 0;
  uint64_t passed_packets = 0;  // Out of the ifb, so far.
};

struct ActionAnswer {
  std::string kind;
  uint32_t number = 0;
};

// Nothing, if the message is of another type or too short for what it claims. Attributes that are
// missing or too short keep their defaults.
std::optional<LinkAnswer> ReadLink(nlmsghdr& message);
std::optional<QdiscAnswer> ReadQdisc(nlmsghdr& message);
std::optional<FilterAnswer> ReadFilter(nlmsghdr& message);
// Of the answers to both halves of PassageRequest. Allocates nothing.
std::optional<PassageAnswer> ReadPassage(nlmsghdr& message);
// The actions that an event of RTM_NEWACTION or RTM_DELACTION names.
std::vector<ActionAnswer> ReadActions(nlmsghdr& message);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_OUTPUT_ANSWERS_H_
