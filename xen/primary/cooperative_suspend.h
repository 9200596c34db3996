// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_COOPERATIVE_SUSPEND_H_
#define HAVEN_XEN_PRIMARY_COOPERATIVE_SUSPEND_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/primary/domain.h"
#include "xen/base/device_model.h"
#include "xen/base/domain_control.h"
#include "xen/base/store.h"
#include "xen/base/suspend_event.h"

namespace haven {

// What the suspend method knows of a guest and others want to know. One thread.
struct XenStopState {
  bool wanted = false;   // Asked to stop, or stopped, by us.
  bool stopped = false;  // Seen suspended, and not resumed since.
};

// SuspendMethod with the guest's help, for Linux PVH and PVHVM guests: the guest reads
// control/shutdown in the store, freezes itself and calls the hypervisor, whose event says so.
// Going on is a suspend that was cancelled, so that front ends stay as they are. A device model
// stops after the guest and goes on before it.
//
// A process that is killed may leave a request behind that the guest has taken and not yet answered
// to. So while one may be on its way, a mark stands in the store: whoever takes hold of the guest
// next knows by it that the guest may still stop, and lets it go on then.
class CooperativeSuspend final : public SuspendMethod {
 public:
  // How long a guest that has taken a request may take to suspend; Linux gives up freezing its
  // tasks after 20 s.
  static constexpr int64_t kTakenMaxNs = 25 * kNsPerSecond;

  struct Seams {
    XenDomainControl* control = nullptr;  // Outlives this, as do the clock and the state.
    std::unique_ptr<XenStore> store;      // For requests: it watches nothing, and is not patient.
    std::unique_ptr<XenStore> watch;      // Watches ends of domains.
    std::unique_ptr<SuspendEvent> event;
    std::shared_ptr<DeviceModel> device_model;  // None: the guest has none, or nobody can tell it.
    const Clock* clock = nullptr;
  };

  // `patient` is asked here and never again: who has just come can wait longer than an epoch.
  // Internal: no descriptors left; else errors of the store.
  static absl::StatusOr<std::unique_ptr<CooperativeSuspend>> Create(
      Seams seams, std::shared_ptr<XenStopState> state, XenStore& patient);
  ~CooperativeSuspend() override;

  absl::Status Request() override;
  // Also kSuspended as long as a guest that nobody wants to stop may still do so.
  State Poll() override;
  absl::Status Resume() override;
  int event_fd() const override { return epoll_fd_.get(); }

 private:
  CooperativeSuspend(Seams seams, std::shared_ptr<XenStopState> state, UniqueFd epoll_fd,
                     bool inherited);

  // Of a guest that stands: whether its device model does as well. One that is lost changes nothing
  // any more either; the capture of its state tells.
  bool DevicesStand();
  // Lets the guest, which is suspended, go on.
  absl::Status GoOn();

  const Seams seams_;
  const std::shared_ptr<XenStopState> state_;
  const UniqueFd epoll_fd_;
  const std::string path_;
  const std::string mark_path_;
  bool marked_;
  bool wrote_ = false;  // A request, into the store.
  bool asked_ = false;  // The same, and it was neither answered nor taken back.
  // A request that the guest had taken when it was taken back: it will stop, and is let go on then.
  int64_t taken_until_ns_ = 0;
  // The same of a process that was killed: it may stop.
  int64_t inherited_until_ns_ = 0;
  // The store's daemon may have seen the guest suspended.
  bool tell_store_ = false;
};

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_COOPERATIVE_SUSPEND_H_
