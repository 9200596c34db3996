// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_SUSPEND_EVENT_H_
#define HAVEN_XEN_BASE_SUSPEND_EVENT_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"

namespace haven {

// How the hypervisor says that a guest has suspended. One thread.
class SuspendEvent {
 public:
  virtual ~SuspendEvent() = default;

  // Readable when the guest may have suspended since the last Take().
  virtual int fd() const = 0;
  // Takes what has been announced. Does not block.
  virtual void Take() = 0;
  // The guest's end of the channel, which a later process may use again.
  virtual uint32_t guest_port() const = 0;
};

// An event channel of our own to the guest, subscribed to its suspends: the hypervisor itself
// announces them, with neither the store's daemon nor the guest in between. While it is there the
// toolstack is not told of suspends (VIRQ_DOM_EXC), so nobody else's monitor reacts to them; every
// other end of the guest it is told of. `guest_port`: of an earlier process, if there was one; the
// guest's end can not be closed from outside and is used again. The subscription ends with the
// object, or stays without effect if this process is killed. Errors of the hypervisor, with errno.
absl::StatusOr<std::unique_ptr<SuspendEvent>> SubscribeSuspend(uint32_t domid,
                                                               std::optional<uint32_t> guest_port);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_SUSPEND_EVENT_H_
