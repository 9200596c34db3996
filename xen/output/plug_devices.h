// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_PLUG_DEVICES_H_
#define HAVEN_XEN_OUTPUT_PLUG_DEVICES_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xen/output/netlink_channel.h"
#include "xen/output/output_answers.h"
#include "xen/output/plug_spec.h"

namespace haven {

// The kernel objects of one output buffer: three ifb devices, each with a plug as its root, and on
// each NIC of the group a filter that sends everything to the one that is current. The filters
// share one redirection, so that pointing it elsewhere moves all NICs at once. What exists is found
// by names that follow from the group's, so it outlives the process. Control path.
class PlugDevices {
 public:
  static constexpr size_t kQueues = 3;

  struct Queue {
    std::string name;
    int ifindex = 0;  // 0: there is none.
    bool up = false;
    bool plugged = false;
  };
  struct Nic {
    std::string name;
    int ifindex = 0;
    bool up = false;
    bool filtered = false;     // By us:
    uint32_t redirection = 0;  // the number of the action that all NICs share,
    int target = 0;            // where it points,
    uint32_t drop = 0;         // the number of the action that drops,
    bool intact = false;       // and whether both do what they should.
  };

  PlugDevices(const PlugSpec& spec, NetlinkChannel& channel);

  // Looks at what exists and changes nothing. AlreadyExists: a device with our name belongs to
  // somebody else. Others: the kernel's own.
  absl::Status Find();

  // Find, and then makes what is missing: from the plugs, which are closed, to the filters.
  // NotFound: a NIC is not there. FailedPrecondition: a NIC has a filter or a program of somebody
  // else, or is in the buffer of another group; or the kernel lacks a part; with what to do.
  absl::Status Ensure();
  // Only the plugs of it. No NIC is touched.
  absl::Status EnsureQueues();

  // Find, and FailedPrecondition if anything is missing.
  absl::Status Verify();

  // Forgets the NICs that are gone and adds those of the group's domains that have come.
  absl::Status FollowNics();

  absl::Status RemoveFilters();
  // With what they hold. A filter that is left drops everything.
  absl::Status DeleteQueues();

  // Whether something of it was there at the last Find.
  bool found() const;
  // Whether, at the last Ensure, a NIC was filtered into a device without a plug: it leaked.
  bool leaked() const { return leaked_; }

  absl::StatusOr<QdiscAnswer> ReadQueue(size_t queue);

  const std::array<Queue, kQueues>& queues() const { return queues_; }
  const std::vector<Nic>& nics() const { return nics_; }
  uint32_t action() const { return action_; }
  // The queue to which the NICs send.
  size_t current() const { return current_; }

 private:
  absl::StatusOr<std::optional<LinkAnswer>> FindLink(const std::string& name);
  absl::Status FindQueue(Queue& queue);
  absl::Status FindNic(Nic& nic);
  // Which filters are this group's, and to which queue they send.
  void FindRedirection();
  absl::Status EnsureQueue(Queue& queue);
  absl::Status EnsureFilter(Nic& nic);
  absl::Status RepairFilter(const Nic& nic);
  absl::Status RemoveFilter(Nic& nic);
  // The NICs of the group's domains that are not in nics_.
  absl::StatusOr<std::vector<std::string>> UnknownNics();
  std::string Alias() const;

  const PlugSpec spec_;
  NetlinkChannel& channel_;
  std::array<Queue, kQueues> queues_;
  std::vector<Nic> nics_;
  uint32_t action_ = 0;
  uint32_t verified_action_ = 0;  // Known to be ours, wherever it points.
  int target_ = 0;  // A queue of ours, or 0: it points nowhere, or to where somebody has turned it.
  size_t current_ = 0;
  absl::Status problem_;  // Why the NICs can not be held.
  bool leaked_ = false;
};

// The name of a group's ifb number `queue`.
std::string PlugDeviceName(const std::string& group, size_t queue);

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_PLUG_DEVICES_H_
