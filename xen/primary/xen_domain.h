// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_XEN_DOMAIN_H_
#define HAVEN_XEN_PRIMARY_XEN_DOMAIN_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/primary/domain.h"
#include "xen/base/device_model.h"
#include "xen/base/domain_control.h"
#include "xen/base/guest_mapping.h"
#include "xen/base/store.h"
#include "xen/primary/cooperative_suspend.h"
#include "xen/primary/device_watch.h"
#include "xen/primary/log_dirty.h"
#include "xen/primary/state_capture.h"

namespace haven {

// Domain: a PVH or PVHVM guest of this host. Its memory is fixed while it is protected: a change of
// its page count makes every further fetch and CheckMemory fail (FailedPrecondition), since neither
// this mapping nor the copy has its new pages.
class XenDomain final : public Domain {
 public:
  struct Parts {
    DomainInfo info;
    std::shared_ptr<XenDomainControl> control;
    std::unique_ptr<XenStore> store;
    std::shared_ptr<XenStopState> stop;
    std::shared_ptr<DeviceModel> device_model;  // None: the guest has none, or it does not answer.
    // What needs the guest's memory; not there for a process that only lets it run or destroys it.
    std::unique_ptr<GuestMapping> mapping;
    std::optional<StateCapture> state;
    uint64_t pages = 0;   // In the domain's memory when it was mapped.
    uint64_t canary = 0;  // As LogDirty has it.
    const Clock* clock = &SystemClock::Get();
    std::unique_ptr<DeviceWatch> devices;  // Where the mapping is.
    bool waits = false;                    // A promoted copy that has not run yet.
    // Ends the domain and its devices by the toolstack.
    std::function<absl::Status(uint32_t domid)> destroy;
  };

  explicit XenDomain(Parts parts);
  ~XenDomain() override { DisableLogDirty(); }

  const DomainInfo& info() const override { return parts_.info; }
  const GuestMemory& memory() const override { return parts_.mapping->memory(); }
  absl::Status EnableLogDirty() override;
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override;
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override;
  absl::StatusOr<uint64_t> CountDirty() override;
  // Also what a killed engine has left on, if this object does not replicate.
  void DisableLogDirty() override;
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override;
  size_t max_state_bytes() const override { return parts_.state->max_bytes(); }
  // Also lets a guest go on that stands suspended by nobody's wish: a request of an engine that
  // died may be answered after its successor began.
  DomainEnd End() override;
  absl::Status CheckMemory() override;
  absl::Status CheckDevices() override;
  // Takes its pause away, and says that it can be suspended again.
  absl::Status LetRun() override;
  // With its devices; by the hypervisor alone if the toolstack does not do it in time.
  absl::Status Destroy() override;

 private:
  std::string MarkerPath() const;
  // Unavailable for a domain that is gone.
  template <typename Value>
  absl::StatusOr<Value> Translate(absl::StatusOr<Value> value) const {
    if (value.ok()) return value;
    return Translate(value.status());
  }
  absl::Status Translate(const absl::Status& status) const;
  absl::Status CheckPages(const XenDomainStatus& status) const;
  absl::Status CheckPlaces();
  absl::Status Fetch(std::span<uint64_t> bitmap, LogDirty::After after);
  absl::Status LateLoss();
  void DropLeftoverLog();

  Parts parts_;
  std::optional<LogDirty> log_;
  absl::Status lost_log_;  // Not OK: frames may have been lost, and nobody was told yet.
  int64_t late_loss_ns_ = std::numeric_limits<int64_t>::max();  // Never.
  // First frames of the runs of RAM, and room to ask for their types.
  std::vector<uint64_t> places_;
  std::vector<uint64_t> types_;
};

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_XEN_DOMAIN_H_
