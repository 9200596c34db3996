// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/attach.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <xen/hvm/params.h>

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
#include "xen/base/description.h"
#include "xen/base/foreign_mapper.h"
#include "xen/base/frame_runs.h"
#include "xen/base/guest_mapping.h"
#include "xen/base/guest_name.h"
#include "xen/base/qmp_channel.h"
#include "xen/base/ram_map.h"
#include "xen/base/store.h"
#include "xen/base/suspend_event.h"
#include "xen/base/toolstack.h"
#include "xen/base/xc_domain_control.h"
#include "xen/primary/cooperative_suspend.h"
#include "xen/primary/host_actions.h"
#include "xen/primary/nic_bridges.h"
#include "xen/primary/qemu_device_model.h"
#include "xen/primary/xen_domain.h"

namespace haven {

namespace {

constexpr absl::Duration kToolstackTimeout = absl::Seconds(30);
// For a device model to greet: it serves one client at a time, and `xentop` may be one.
constexpr absl::Duration kDeviceModelTimeout = absl::Seconds(3);

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

// A frame that is memory, belongs to no epoch, and that nobody writes: a ring for introspection.
absl::StatusOr<uint64_t> CanaryFrame(const std::string& name, XenDomainControl& control,
                                     const RamMap& map) {
  for (const uint32_t param :
       {HVM_PARAM_PAGING_RING_PFN, HVM_PARAM_SHARING_RING_PFN, HVM_PARAM_MONITOR_RING_PFN}) {
    HAVEN_ASSIGN_OR_RETURN(const uint64_t frame, control.HvmParam(param));
    if (std::binary_search(map.special.begin(), map.special.end(), frame)) return frame;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "guest ", name,
      " can not be protected: it has no page of the kind that guards its log of "
      "dirty pages (the rings for memory introspection): was it built by another toolstack?"));
}

absl::StatusOr<std::string> Describe(XenDomainControl& control, const RamMap& map,
                                     const DeviceModel* device_model,
                                     const XenToolstackConfig& config) {
  XenDescription description;
  if (device_model != nullptr) description.device_model = device_model->version();
  description.max_vcpus = config.max_vcpus;
  description.config_json = config.json;
  std::vector<uint64_t> frames = map.ram;
  for (const uint64_t frame : map.special) frames[frame / 64] |= uint64_t{1} << (frame % 64);
  for (FrameRange run = NextFrameRange(frames, 0, map.frame_count); !run.empty();
       run = NextFrameRange(frames, run.end, map.frame_count)) {
    description.frames.push_back({run.first, run.end - run.first});
  }
  HAVEN_ASSIGN_OR_RETURN(XenCpuPolicy policy, control.CpuPolicy());
  description.cpuid_policy = std::move(policy.cpuid);
  description.msr_policy = std::move(policy.msr);
  // Without the device model, which runs and saves nothing now.
  HAVEN_ASSIGN_OR_RETURN(StateCapture state, StateCapture::Create(control, nullptr));
  description.first_state.resize(state.max_bytes());
  HAVEN_ASSIGN_OR_RETURN(const size_t bytes, state.Capture(description.first_state));
  description.first_state.resize(bytes);
  return EncodeXenDescription(description);
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

// The device model of a guest that has one. A process that only lets the guest go on does so
// without it, too.
absl::StatusOr<std::shared_ptr<DeviceModel>> OpenDeviceModel(const std::string& name,
                                                             uint32_t domid, XenStore& store,
                                                             bool replicate) {
  const absl::StatusOr<std::string> type = store.Read(absl::StrCat("/libxl/", domid, "/type"));
  if (!type.ok() && !absl::IsNotFound(type.status())) return type.status();
  if (!type.ok() || *type != "hvm") return nullptr;
  absl::StatusOr<std::unique_ptr<QemuDeviceModel>> model = QemuDeviceModel::Open(
      QmpSocketPath(domid), {.guest = name, .saves = replicate}, TimeLimit(kDeviceModelTimeout));
  if (model.ok()) return std::shared_ptr<DeviceModel>(*std::move(model));
  const std::string cause = absl::StrCat("guest ", name, ": its device model (QEMU, domain ", domid,
                                         ") can not be reached: ", model.status().message());
  if (replicate) return absl::Status(model.status().code(), cause);
  HAVEN_LOG(kWarning, "xen") << cause << "; if it stands still it stays so";
  return nullptr;
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
                         Describe(control, map, parts.device_model.get(), config));
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

}  // namespace

absl::StatusOr<uint32_t> FindXenGuest(const std::string& name) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenStore> store, OpenXenStore());
  return FindGuestDomain(*store, name, [](uint32_t domid) {
    const absl::StatusOr<std::unique_ptr<XenDomainControl>> control = OpenXenDomain(domid);
    if (!control.ok()) return false;
    const absl::StatusOr<XenDomainStatus> status = (*control)->Status();
    return status.ok() && !status->paused && !status->dying;
  });
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
  HAVEN_ASSIGN_OR_RETURN(guest.domid, FindXenGuest(name));
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
  HAVEN_ASSIGN_OR_RETURN(parts.device_model,
                         OpenDeviceModel(parts.info.name, guest.domid, *parts.store, replicate));
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
