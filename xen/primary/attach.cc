// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/attach.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/time_limit.h"
#include "xen/base/foreign_mapper.h"
#include "xen/base/guest_mapping.h"
#include "xen/base/guest_name.h"
#include "xen/base/ram_map.h"
#include "xen/base/store.h"
#include "xen/base/suspend_event.h"
#include "xen/base/toolstack.h"
#include "xen/base/xc_domain_control.h"
#include "xen/primary/cooperative_suspend.h"
#include "xen/primary/describe_guest.h"
#include "xen/primary/guest_device_model.h"
#include "xen/primary/host_actions.h"
#include "xen/primary/nic_bridges.h"
#include "xen/primary/xen_domain.h"

namespace haven {

namespace {

constexpr absl::Duration kToolstackTimeout = absl::Seconds(30);

// What each step took so far, as words of a log line.
class StepTimes {
 public:
  // The step that ends now.
  void Note(const char* step) {
    const int64_t now_ns = SystemClock::Get().NowNs();
    absl::StrAppend(&text_, " ", step, "_ms=", (now_ns - begun_ns_) / kNsPerMs);
    begun_ns_ = now_ns;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int64_t begun_ns_ = SystemClock::Get().NowNs();
};

std::string DomainPath(uint32_t domid, const char* rest) {
  return absl::StrCat("/local/domain/", domid, rest);
}

// The text of a store's entry, or nothing.
std::string TextOr(XenStore& store, const std::string& path) {
  const absl::StatusOr<std::string> text = store.Read(path);
  return text.ok() ? *text : "";
}

uint64_t NumberOr0(XenStore& store, const std::string& path) {
  uint64_t number = 0;
  return absl::SimpleAtoi(TextOr(store, path), &number) ? number : 0;
}

// Released by the kernel when this process ends: an address of the abstract name space.
absl::StatusOr<UniqueFd> TakeHold(const std::string& name, uint32_t domid,
                                  const std::array<uint8_t, 16>& uuid) {
  UniqueFd hold(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!hold) return absl::ErrnoToStatus(errno, "make a socket");
  const std::string text = absl::StrCat("haven-xen-", domid, "-", FormatXenUuid(uuid));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::copy(text.begin(), text.end(), address.sun_path + 1);
  const socklen_t bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (bind(hold.get(), reinterpret_cast<const sockaddr*>(&address), bytes) == 0) return hold;
  if (errno != EADDRINUSE) return absl::ErrnoToStatus(errno, "take hold of a guest");
  return absl::FailedPreconditionError(
      absl::StrCat("guest ", name, ": another process of haven-engine has hold of it"));
}

absl::Status CheckFacts(const std::string& name, const XenDomainStatus& status, uint32_t domid,
                        XenStore& store, const std::string& config_json,
                        const XenRefusalOptions& options) {
  XenGuestFacts facts;
  facts.name = name;
  facts.status = status;
  facts.config_json = config_json;
  facts.suspends = TextOr(store, DomainPath(domid, "/control/feature-suspend")) == "1";
  facts.host_reasons = ReasonsAgainstHost("", name);
  facts.target_kib = NumberOr0(store, DomainPath(domid, "/memory/target"));
  facts.static_max_kib = NumberOr0(store, DomainPath(domid, "/memory/static-max"));
  facts.device_model = TextOr(store, absl::StrCat("/libxl/", domid, "/dm-version"));
  facts.video_kib = NumberOr0(store, DomainPath(domid, "/memory/videoram"));
  return CheckProtectable(facts, options);
}

absl::StatusOr<XenToolstackConfig> ToolstackConfig(uint32_t domid) {
  HAVEN_ASSIGN_OR_RETURN(const std::string printed,
                         RunXl({"list", "-l", absl::StrCat(domid)}, kToolstackTimeout));
  return ParseXlList(printed);
}

absl::StatusOr<std::unique_ptr<CooperativeSuspend>> MakeSuspend(
    uint32_t domid, XenStore& store, XenDomainControl& control, std::shared_ptr<XenStopState> state,
    std::shared_ptr<DeviceModel> device_model) {
  const std::string port_path = absl::StrCat("/libxl/", domid, "/haven-suspend-port");
  std::optional<uint32_t> port;
  if (const uint64_t old = NumberOr0(store, port_path); old > 0 && old <= UINT32_MAX) {
    port = static_cast<uint32_t>(old);
  }
  CooperativeSuspend::Seams seams;
  seams.control = &control;
  HAVEN_ASSIGN_OR_RETURN(seams.store, OpenXenStore(kEpochStorePatience));
  HAVEN_ASSIGN_OR_RETURN(seams.watch, OpenXenStore());
  HAVEN_ASSIGN_OR_RETURN(seams.event, SubscribeSuspend(domid, port));
  HAVEN_RETURN_IF_ERROR(store.Write(port_path, absl::StrCat(seams.event->guest_port())));
  seams.device_model = std::move(device_model);
  seams.clock = &SystemClock::Get();
  return CooperativeSuspend::Create(std::move(seams), std::move(state), store);
}

// How the guest is made, if it can be protected; `parts` watches its devices from then on.
absl::StatusOr<XenToolstackConfig> ProtectableConfig(const XenDomainStatus& status,
                                                     const XenRefusalOptions& options,
                                                     XenDomain::Parts& parts, StepTimes& times) {
  const uint32_t domid = parts.control->domid();
  // First, so that a device which comes now is one too many rather than overlooked.
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<XenStore> store, OpenXenStore(kEpochStorePatience));
  HAVEN_ASSIGN_OR_RETURN(parts.devices, DeviceWatch::Create(std::move(store), *parts.store, domid));
  HAVEN_ASSIGN_OR_RETURN(XenToolstackConfig config, ToolstackConfig(domid));
  times.Note("list");
  config.json = WithBridges(config.json, [&](uint64_t nic) {
    return TextOr(*parts.store, absl::StrCat("/libxl/", domid, "/device/vif/", nic, "/bridge"));
  });
  HAVEN_RETURN_IF_ERROR(
      CheckFacts(parts.info.name, status, domid, *parts.store, config.json, options));
  times.Note("check");
  return config;
}

// All that replication needs of the guest.
absl::Status Map(const XenDomainStatus& status, const XenToolstackConfig& config,
                 XenDomain::Parts& parts, StepTimes& times) {
  XenDomainControl& control = *parts.control;
  const std::string& name = parts.info.name;
  parts.info.disk_covered = !WritesDisks(config.json);
  HAVEN_ASSIGN_OR_RETURN(const RamMap map, ReadRamMap(control));
  times.Note("search");
  HAVEN_ASSIGN_OR_RETURN(parts.canary, CanaryFrame(name, control, map));
  HAVEN_ASSIGN_OR_RETURN(parts.state, StateCapture::Create(control, parts.device_model.get()));
  HAVEN_ASSIGN_OR_RETURN(parts.info.config,
                         DescribeGuest(control, map, parts.device_model.get(), config));
  times.Note("describe");
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ForeignMapper> mapper, OpenForeignMapper(control.domid()));
  HAVEN_ASSIGN_OR_RETURN(parts.mapping,
                         GuestMapping::Create(name, std::move(mapper), map.ram, map.frame_count,
                                              /*writable=*/false));
  times.Note("map");
  parts.pages = status.pages;
  HAVEN_LOG(kInfo, "xen") << "guest=" << name << " domain=" << control.domid()
                          << " pages=" << status.pages << " ram_pages=" << map.ram_frames
                          << " special=" << map.special.size() << " frames=" << map.frame_count
                          << " batches=" << map.batches << times.text();
  return absl::OkStatus();
}

// `promoted`: a copy that is still paused is the guest as well.
absl::StatusOr<uint32_t> Find(const std::string& name, bool promoted) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenStore> store, OpenXenStore());
  return FindGuestDomain(*store, name, [promoted](uint32_t domid) {
    const absl::StatusOr<std::unique_ptr<XenDomainControl>> control = OpenXenDomain(domid);
    const absl::StatusOr<XenDomainStatus> status =
        control.ok() ? (*control)->Status() : absl::StatusOr<XenDomainStatus>(control.status());
    if (!status.ok()) {
      return absl::IsNotFound(status.status()) ? DomainLife::kGone : DomainLife::kThere;
    }
    return (status->paused && !promoted) || status->dying ? DomainLife::kThere : DomainLife::kRuns;
  });
}

}  // namespace

absl::StatusOr<uint32_t> FindXenGuest(const std::string& name) {
  return Find(name, /*promoted=*/false);
}

absl::Status MarkXenGuest(uint32_t domid, const std::string& name) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenStore> store, OpenXenStore());
  return MarkGuest(*store, domid, name);
}

absl::Status UnmarkXenGuest(uint32_t domid) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenStore> store, OpenXenStore());
  return UnmarkGuest(*store, domid);
}

absl::StatusOr<std::string> XenGuestName(uint32_t domid) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenStore> store, OpenXenStore());
  return store->Read(DomainPath(domid, "/name"));
}

absl::Status CheckXenGuest(const std::string& name, const XenRefusalOptions& options) {
  HAVEN_ASSIGN_OR_RETURN(const uint32_t domid, FindXenGuest(name));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenDomainControl> control, OpenXenDomain(domid));
  HAVEN_ASSIGN_OR_RETURN(const XenDomainStatus status, control->Status());
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenStore> store, OpenXenStore());
  HAVEN_ASSIGN_OR_RETURN(const XenToolstackConfig config, ToolstackConfig(domid));
  return CheckFacts(name, status, domid, *store, config.json, options);
}

absl::StatusOr<XenGuest> AttachXenGuest(const std::string& name, XenHold hold,
                                        const XenRefusalOptions& options) {
  XenGuest guest;
  StepTimes times;
  HAVEN_ASSIGN_OR_RETURN(guest.domid, Find(name, hold == XenHold::kRun));
  XenDomain::Parts parts;
  HAVEN_ASSIGN_OR_RETURN(parts.control, OpenXenDomain(guest.domid));
  HAVEN_ASSIGN_OR_RETURN(const XenDomainStatus status, parts.control->Status());
  if (status.dying) {
    return absl::NotFoundError(absl::StrCat("guest ", name, " is being destroyed"));
  }
  HAVEN_ASSIGN_OR_RETURN(guest.hold, TakeHold(name, guest.domid, status.uuid));
  HAVEN_ASSIGN_OR_RETURN(parts.store, OpenXenStore());
  HAVEN_ASSIGN_OR_RETURN(parts.info.name, parts.store->Read(DomainPath(guest.domid, "/name")));
  parts.info.uuid = FormatXenUuid(status.uuid);
  parts.waits = status.paused && IsIncomingName(parts.info.name, name);
  parts.stop = std::make_shared<XenStopState>();
  parts.destroy = [](uint32_t domid) {
    return RunXl({"destroy", absl::StrCat(domid)}, kToolstackTimeout).status();
  };
  times.Note("find");
  const bool replicate = hold == XenHold::kReplicate;
  XenToolstackConfig config;
  if (replicate) {
    HAVEN_ASSIGN_OR_RETURN(config, ProtectableConfig(status, options, parts, times));
  }
  // Before the memory is mapped, which takes longest: a store that does not answer costs less here.
  HAVEN_ASSIGN_OR_RETURN(parts.device_model, OpenGuestDeviceModel(parts.info.name, guest.domid,
                                                                  *parts.store, replicate));
  HAVEN_ASSIGN_OR_RETURN(
      std::unique_ptr<CooperativeSuspend> suspend,
      MakeSuspend(guest.domid, *parts.store, *parts.control, parts.stop, parts.device_model));
  times.Note("subscribe");
  if (replicate) HAVEN_RETURN_IF_ERROR(Map(status, config, parts, times));
  guest.suspend = std::move(suspend);
  guest.domain = std::make_unique<XenDomain>(std::move(parts));
  return guest;
}

}  // namespace haven
