// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_PLUG_MONITOR_H_
#define HAVEN_XEN_OUTPUT_PLUG_MONITOR_H_

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "xen/output/netlink_socket.h"
#include "xen/output/output_answers.h"
#include "xen/output/plug_devices.h"
#include "xen/output/plug_spec.h"

namespace haven {

// Listens to what happens to links and traffic control, and knows what of it breaks an output
// buffer. The events that our own requests cause do not come (netlink_socket.h). Not thread-safe.
class PlugMonitor {
 public:
  PlugMonitor(const PlugSpec& spec, std::unique_ptr<NetlinkSocket> events, const Clock& clock);

  // Drops what has been announced so far: the state is looked at after this.
  void Flush();

  // From now on the buffer is known to be as `devices` says. Ends an earlier trouble.
  void Watch(const PlugDevices& devices);

  // From now on nothing is known, and nothing is wrong.
  void Ignore();

  // Takes the events that have come, a bounded number, without waiting. FailedPrecondition, from
  // the first one on that breaks the buffer until Watch or Ignore: what happened, and for how long
  // output may have left uncommitted.
  absl::Status Poll();

 private:
  // What an event means for the buffer; empty: nothing.
  std::string Judge(nlmsghdr& message);
  std::string JudgeLink(const LinkAnswer& link, bool gone);
  std::string JudgeQdisc(const QdiscAnswer& qdisc);
  std::string JudgeFilter(const FilterAnswer& filter) const;
  std::string JudgeActions(const std::vector<ActionAnswer>& actions) const;
  const PlugDevices::Queue* QueueOf(int ifindex) const;
  PlugDevices::Nic* NicOf(int ifindex);
  const PlugDevices::Nic* NicOf(int ifindex) const;

  const PlugSpec spec_;
  const std::unique_ptr<NetlinkSocket> events_;
  const Clock& clock_;
  std::vector<std::byte> buffer_;

  bool watching_ = false;
  std::vector<PlugDevices::Queue> queues_;
  std::vector<PlugDevices::Nic> nics_;
  uint32_t action_ = 0;
  std::string trouble_;
  int64_t intact_ns_ = 0;  // When it was last known to be intact.
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_PLUG_MONITOR_H_
