// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/xen_domain.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "xen/base/left_device_model.h"

namespace haven {

namespace {

// Within this time a toolstack that has taken the log away also says so to the device model.
constexpr int64_t kToolstackEndsNs = 2 * kNsPerSecond;

}  // namespace

XenDomain::XenDomain(Parts parts) : parts_(std::move(parts)) {
  if (parts_.mapping == nullptr) return;
  log_.emplace(*parts_.control, parts_.info.name, memory().page_count(), parts_.canary);
  if (parts_.device_model == nullptr) return;
  for (Gfn gfn = 0; gfn < memory().page_count(); ++gfn) {
    if (memory().IsRam(gfn) && (gfn == 0 || !memory().IsRam(gfn - 1))) places_.push_back(gfn);
  }
  // Those at the top are a video card's.
  const size_t most = std::min(places_.size(), XenDomainControl::kFrameTypesMax);
  places_.erase(places_.begin(), places_.end() - static_cast<ptrdiff_t>(most));
  types_.resize(places_.size());
}

// Says that log-dirty is on for us. It goes with the domain, and survives the engine.
std::string XenDomain::MarkerPath() const {
  return absl::StrCat("/libxl/", parts_.control->domid(), "/haven-log-dirty");
}

absl::Status XenDomain::EnableLogDirty() {
  const absl::StatusOr<std::string> marker = parts_.store->Read(MarkerPath());
  if (!marker.ok() && !absl::IsNotFound(marker.status())) return marker.status();
  // Written before log-dirty is on, so that it is never on for us without the marker.
  const bool leftover = marker.ok();
  if (!leftover) HAVEN_RETURN_IF_ERROR(parts_.store->Write(MarkerPath(), "on"));
  absl::Status enabled = absl::OkStatus();
  // First, so that what it writes is logged from the beginning.
  if (parts_.device_model != nullptr) enabled = parts_.device_model->LogWrites();
  if (enabled.ok()) enabled = Translate(log_->Enable(leftover));
  if (!enabled.ok() && !leftover) parts_.store->Remove(MarkerPath()).IgnoreError();
  return enabled;
}

absl::Status XenDomain::FetchAndClearDirty(std::span<uint64_t> bitmap) {
  return Fetch(bitmap, LogDirty::After::kClear);
}

absl::Status XenDomain::FetchDirty(std::span<uint64_t> bitmap) {
  return Fetch(bitmap, LogDirty::After::kKeep);
}

absl::Status XenDomain::Fetch(std::span<uint64_t> bitmap, LogDirty::After after) {
  absl::Status fetched = Translate(log_->Fetch(bitmap, parts_.stop->stopped, after));
  if (!fetched.ok() && !absl::IsAborted(fetched)) return fetched;
  // The log is whole again: who is told of another error now has to hear of this one later.
  if (!fetched.ok()) {
    lost_log_ = std::move(fetched);
    if (parts_.device_model != nullptr) late_loss_ns_ = parts_.clock->NowNs() + kToolstackEndsNs;
  }
  // Of a dying domain the log is silent: that it lives is looked at afterwards.
  const absl::StatusOr<XenDomainStatus> status = parts_.control->Status();
  HAVEN_RETURN_IF_ERROR(Translate(status.status()));
  if (status->dying) {
    return absl::UnavailableError(absl::StrCat("guest ", parts_.info.name, " is being destroyed"));
  }
  HAVEN_RETURN_IF_ERROR(CheckPages(*status));
  HAVEN_RETURN_IF_ERROR(CheckPlaces());
  if (lost_log_.ok()) lost_log_ = LateLoss();
  if (lost_log_.ok()) return lost_log_;
  // Whoever took the log away has told the device model to log no more, or is about to.
  if (parts_.device_model != nullptr) HAVEN_RETURN_IF_ERROR(parts_.device_model->LogWrites());
  return std::exchange(lost_log_, absl::OkStatus());
}

// The log was whole again before the device model was told to log no more: until it went on the
// next time it wrote what nobody knows of.
absl::Status XenDomain::LateLoss() {
  if (parts_.clock->NowNs() < late_loss_ns_) return absl::OkStatus();
  late_loss_ns_ = std::numeric_limits<int64_t>::max();
  return absl::AbortedError(absl::StrCat("guest ", parts_.info.name,
                                         ": what its device model wrote just after somebody had "
                                         "used its log of dirty pages may not be "
                                         "in it; every page is sent again"));
}

absl::StatusOr<uint64_t> XenDomain::CountDirty() { return Translate(log_->Count()); }

absl::Status XenDomain::CheckPages(const XenDomainStatus& status) const {
  if (status.pages == parts_.pages) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("guest ", parts_.info.name, ": its memory has changed from ", parts_.pages,
                   " to ", status.pages,
                   " pages while it was protected, and all of it has to be sent anew: leave its "
                   "memory alone (xl mem-set)"));
}

absl::Status XenDomain::CheckMemory() {
  if (parts_.mapping == nullptr) return absl::OkStatus();
  const absl::StatusOr<XenDomainStatus> status = parts_.control->Status();
  if (!status.ok() || status->dying) return absl::OkStatus();  // End() tells.
  HAVEN_RETURN_IF_ERROR(CheckPages(*status));
  return CheckPlaces();
}

// A guest that moves a frame buffer in its address space moves memory without a change of its size,
// and no log tells.
absl::Status XenDomain::CheckPlaces() {
  if (places_.empty()) return absl::OkStatus();
  types_ = places_;
  if (!parts_.control->FrameTypes(types_).ok()) return absl::OkStatus();  // Not known.
  for (size_t i = 0; i < types_.size(); ++i) {
    if (types_[i] == 0) continue;
    return absl::FailedPreconditionError(
        absl::StrFormat("guest %s: the memory at frame %#x is somewhere else now (it has moved a "
                        "video card's), and "
                        "all of it has to be sent anew",
                        parts_.info.name, places_[i]));
  }
  return absl::OkStatus();
}

absl::Status XenDomain::CheckDevices() {
  if (parts_.devices == nullptr) return absl::OkStatus();
  if (parts_.device_model != nullptr && parts_.device_model->Poll() == DeviceModel::State::kLost) {
    return absl::FailedPreconditionError(
        absl::StrCat("guest ", parts_.info.name,
                     ": its device model (QEMU) is lost to this process, and another one has to "
                     "connect to it"));
  }
  const std::string& changed = parts_.devices->Changed();
  if (changed.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "guest ", parts_.info.name, ": its devices have changed from ", changed,
      ", and it is protected anew, with a copy that has the same; until that is filled "
      "it runs unprotected"));
}

void XenDomain::DisableLogDirty() {
  if (!log_.has_value()) return DropLeftoverLog();
  if (!log_->enabled()) return;
  log_->Disable();
  // Last, so that it is never on for us without the marker.
  const absl::Status removed = parts_.store->Remove(MarkerPath());
  if (!removed.ok()) HAVEN_LOG(kWarning, "xen") << std::string(removed.message());
}

// An engine that was killed has left it on; whoever replicates next begins anew in any case.
void XenDomain::DropLeftoverLog() {
  if (!parts_.store->Read(MarkerPath()).ok()) return;
  absl::Status dropped = parts_.control->LogDirtyOff();
  if (dropped.ok() || absl::IsNotFound(dropped)) dropped = parts_.store->Remove(MarkerPath());
  if (!dropped.ok()) HAVEN_LOG(kWarning, "xen") << std::string(dropped.message());
}

absl::StatusOr<size_t> XenDomain::CaptureState(std::span<std::byte> out) {
  absl::StatusOr<size_t> captured = parts_.state->Capture(out);
  if (!captured.ok()) return Translate(captured.status());
  // Pages and state are of one moment only if it stood until now.
  const absl::StatusOr<XenDomainStatus> status = parts_.control->Status();
  HAVEN_RETURN_IF_ERROR(Translate(status.status()));
  if (status->suspended()) return captured;
  return absl::FailedPreconditionError(absl::StrCat(
      "guest ", parts_.info.name,
      ": somebody let it go on while its checkpoint was taken, which is given up: do not "
      "save or migrate a protected guest (xl save, xl migrate)"));
}

absl::Status XenDomain::LetRun() {
  if (!parts_.waits) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(Translate(parts_.control->Unpause()));
  parts_.waits = false;
  HAVEN_LOG(kInfo, "xen") << "guest " << parts_.info.name << " runs as domain "
                          << parts_.control->domid() << ": its promotion was broken off before";
  // As its promotion would have done: a guest says so when it boots, and never again.
  const absl::Status offered = parts_.store->Write(
      absl::StrCat("/local/domain/", parts_.control->domid(), "/control/feature-suspend"), "1");
  if (!offered.ok()) {
    HAVEN_LOG(kWarning, "xen") << "guest " << parts_.info.name
                               << " can not be protected again before it has booted anew, or "
                               << "`xenstore-write /local/domain/" << parts_.control->domid()
                               << "/control/feature-suspend 1` has said that it can be suspended: "
                               << std::string(offered.message());
  }
  return absl::OkStatus();
}

DomainEnd XenDomain::End() {
  const absl::StatusOr<XenDomainStatus> status = parts_.control->Status();
  if (absl::IsNotFound(status.status())) return DomainEnd::kVanished;
  if (!status.ok()) return DomainEnd::kNone;  // Not known: the next look tells.
  if (status->dying) return DomainEnd::kVanished;
  if (!status->shutdown) return DomainEnd::kNone;
  switch (status->reason) {
    case XenShutdown::kPoweroff:
      return DomainEnd::kShutdown;
    case XenShutdown::kReboot:
    case XenShutdown::kSoftReset:
      return DomainEnd::kReboot;
    case XenShutdown::kCrash:
    case XenShutdown::kWatchdog:
      return DomainEnd::kCrash;
    case XenShutdown::kSuspend:
      break;
  }
  if (!parts_.stop->wanted) {
    if (parts_.device_model != nullptr) parts_.device_model->Run();
    const absl::Status resumed = parts_.control->ResumeCancelled();
    HAVEN_LOG(kWarning, "xen") << "guest=" << parts_.info.name
                               << " stood suspended though nobody here asked it to, and is let go "
                                  "on: "
                               << std::string(resumed.message());
  }
  return DomainEnd::kNone;
}

absl::Status XenDomain::Destroy() {
  const absl::Status destroyed = parts_.destroy(parts_.control->domid());
  absl::StatusOr<XenDomainStatus> status = parts_.control->Status();
  if (absl::IsNotFound(status.status())) return absl::OkStatus();
  HAVEN_LOG(kWarning, "xen") << "guest=" << parts_.info.name
                             << " is still there after the toolstack has destroyed it: "
                             << std::string(destroyed.message());
  const absl::Status killed = parts_.control->Destroy();
  if (!killed.ok() && !absl::IsNotFound(killed)) return killed;
  HAVEN_RETURN_IF_ERROR(KillLeftDeviceModel(*parts_.store, parts_.control->domid()));
  return destroyed;
}

absl::Status XenDomain::Translate(const absl::Status& status) const {
  if (!absl::IsNotFound(status)) return status;
  return absl::UnavailableError(
      absl::StrCat("guest ", parts_.info.name, " is gone: ", status.message()));
}

}  // namespace haven
