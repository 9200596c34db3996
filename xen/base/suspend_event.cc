// SPDX-License-Identifier: Apache-2.0
#include "xen/base/suspend_event.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "xen/base/libxc.h"

namespace haven {

namespace {

struct CloseXc {
  void operator()(xc_interface* xc) const { xc_interface_close(xc); }
};
struct CloseEvents {
  void operator()(xenevtchn_handle* handle) const { xenevtchn_close(handle); }
};

class SubscribedEvent final : public SuspendEvent {
 public:
  SubscribedEvent(std::unique_ptr<xc_interface, CloseXc> xc,
                  std::unique_ptr<xenevtchn_handle, CloseEvents> events, uint32_t domid,
                  uint32_t guest_port)
      : xc_(std::move(xc)), events_(std::move(events)), domid_(domid), guest_port_(guest_port) {}

  // Fails only if the domain is gone, and then there is nothing to end.
  ~SubscribedEvent() override { xc_domain_subscribe_for_suspend(xc_.get(), domid_, 0); }

  int fd() const override { return xenevtchn_fd(events_.get()); }

  void Take() override {
    pollfd ready = {fd(), POLLIN, 0};
    while (poll(&ready, 1, 0) == 1 && (ready.revents & POLLIN) != 0) {
      const xenevtchn_port_or_error_t port = xenevtchn_pending(events_.get());
      if (port < 0) return;
      xenevtchn_unmask(events_.get(), static_cast<evtchn_port_t>(port));
    }
  }

  uint32_t guest_port() const override { return guest_port_; }

 private:
  const std::unique_ptr<xc_interface, CloseXc> xc_;
  const std::unique_ptr<xenevtchn_handle, CloseEvents> events_;
  const uint32_t domid_;
  const uint32_t guest_port_;
};

absl::Status Error(uint32_t domid, const char* what) {
  return absl::InternalError(
      absl::StrCat("domain ", domid, ": can not ", what, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SuspendEvent>> SubscribeSuspend(uint32_t domid,
                                                               std::optional<uint32_t> guest_port) {
  std::unique_ptr<xc_interface, CloseXc> xc(xc_interface_open(nullptr, nullptr, 0));
  if (xc == nullptr) return Error(domid, "reach the hypervisor");
  std::unique_ptr<xenevtchn_handle, CloseEvents> events(xenevtchn_open(nullptr, 0));
  if (events == nullptr) return Error(domid, "open the event channels");
  const bool again =
      guest_port.has_value() && xenevtchn_bind_interdomain(events.get(), domid, *guest_port) >= 0;
  if (!again) {
    const xc_evtchn_port_or_error_t port = xc_evtchn_alloc_unbound(xc.get(), domid, 0);
    if (port < 0) return Error(domid, "make an event channel");
    guest_port = static_cast<uint32_t>(port);
    if (xenevtchn_bind_interdomain(events.get(), domid, *guest_port) < 0) {
      return Error(domid, "bind an event channel");
    }
  }
  if (xc_domain_subscribe_for_suspend(xc.get(), domid, *guest_port) != 0) {
    return Error(domid, "subscribe to its suspends");
  }
  return std::make_unique<SubscribedEvent>(std::move(xc), std::move(events), domid, *guest_port);
}

}  // namespace haven
