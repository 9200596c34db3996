// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/xen_replica_host.h"

#include <net/if.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "xen/backup/rarp.h"
#include "xen/base/guest_name.h"
#include "xen/base/left_device_model.h"
#include "xen/base/libxc.h"
#include "xen/base/store.h"

namespace haven {
namespace {

struct CloseXc {
  void operator()(xc_interface* xc) const { xc_interface_close(xc); }
};
using XcHandle = std::unique_ptr<xc_interface, CloseXc>;

constexpr char kDomains[] = "/local/domain";

std::string NamePath(uint32_t domid) { return absl::StrCat(kDomains, "/", domid, "/name"); }

absl::Status Refused(uint32_t domid, const char* call) {
  return absl::InternalError(
      absl::StrCat("domain ", domid, ": ", call, " failed: ", std::strerror(errno)));
}

class XenReplicaHost final : public ReplicaHost {
 public:
  XenReplicaHost(XcHandle xc, std::unique_ptr<XenStore> store)
      : xc_(std::move(xc)), store_(std::move(store)) {}

  absl::StatusOr<uint32_t> FindDomain(const std::string& name) override {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> domains, store_->List(kDomains));
    for (const std::string& entry : domains) {
      uint32_t domid = 0;
      if (!absl::SimpleAtoi(entry, &domid)) continue;
      // One that has no name, or has just gone, is not the one.
      const absl::StatusOr<std::string> found = store_->Read(NamePath(domid));
      if (!found.ok() || *found != name) continue;
      // The store may keep the name of one that only the hypervisor has destroyed.
      HAVEN_ASSIGN_OR_RETURN(const DomainState state, StateOf(domid));
      if (state != DomainState::kGone) return domid;
    }
    return absl::NotFoundError(absl::StrCat("there is no domain \"", name, "\" here"));
  }

  absl::StatusOr<DomainState> StateOf(uint32_t domid) override {
    xc_dominfo_t info;
    const int found = xc_domain_getinfo(xc_.get(), domid, 1, &info);
    if (found < 0 && errno != ESRCH) return Refused(domid, "xc_domain_getinfo");
    // The hypervisor names the next domain if there is none of this number.
    if (found != 1 || info.domid != domid || info.dying) return DomainState::kGone;
    return info.paused ? DomainState::kWaiting : DomainState::kRunning;
  }

  absl::Status Pause(uint32_t domid) override {
    if (xc_domain_pause(xc_.get(), domid) != 0) return Refused(domid, "xc_domain_pause");
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<ForeignMapper>> MapperFor(uint32_t domid) override {
    return OpenForeignMapper(domid);
  }

  absl::Status SetTsc(uint32_t domid, const XenTscInfo& tsc) override {
    if (xc_domain_set_tsc_info(xc_.get(), domid, tsc.mode, tsc.elapsed_ns, tsc.khz,
                               tsc.incarnation) != 0) {
      return Refused(domid, "xc_domain_set_tsc_info");
    }
    return absl::OkStatus();
  }

  absl::Status SetHvmParam(uint32_t domid, const HvmParam& param) override {
    if (xc_hvm_param_set(xc_.get(), domid, static_cast<uint32_t>(param.index), param.value) != 0) {
      return Refused(domid, "xc_hvm_param_set");
    }
    return absl::OkStatus();
  }

  absl::Status SetHvmContext(uint32_t domid, std::span<const std::byte> context) override {
    // The hypervisor's library copies it and takes no const pointer.
    std::vector<uint8_t> copy(context.size());
    std::memcpy(copy.data(), context.data(), context.size());
    if (xc_domain_hvm_setcontext(xc_.get(), domid, copy.data(),
                                 static_cast<uint32_t>(copy.size())) != 0) {
      return Refused(domid, "xc_domain_hvm_setcontext");
    }
    return absl::OkStatus();
  }

  absl::Status Unpause(uint32_t domid) override {
    if (xc_domain_unpause(xc_.get(), domid) != 0) return Refused(domid, "xc_domain_unpause");
    return absl::OkStatus();
  }

  absl::Status Destroy(uint32_t domid) override {
    if (xc_domain_destroy(xc_.get(), domid) != 0) return Refused(domid, "xc_domain_destroy");
    return KillLeftDeviceModel(*store_, domid);
  }

  absl::Status Rename(uint32_t domid, const std::string& name) override {
    HAVEN_RETURN_IF_ERROR(MarkGuest(*store_, domid, name));
    const absl::StatusOr<uint32_t> other = FindDomain(name);
    if (other.ok() && *other != domid) {
      return absl::AlreadyExistsError(
          absl::StrCat("domain ", *other, " is called ", name, " already"));
    }
    if (!other.ok() && !absl::IsNotFound(other.status())) return other.status();
    HAVEN_RETURN_IF_ERROR(store_->Write(NamePath(domid), name));
    HAVEN_ASSIGN_OR_RETURN(const std::string vm,
                           store_->Read(absl::StrCat(kDomains, "/", domid, "/vm")));
    return store_->Write(absl::StrCat(vm, "/name"), name);
  }

  absl::Status OfferSuspend(uint32_t domid) override {
    return store_->Write(absl::StrCat(kDomains, "/", domid, "/control/feature-suspend"), "1");
  }

  absl::StatusOr<uint64_t> FreeMemoryBytes() override {
    xc_physinfo_t info = {};
    if (xc_physinfo(xc_.get(), &info) != 0) {
      return absl::InternalError(absl::StrCat("xc_physinfo failed: ", std::strerror(errno)));
    }
    return info.free_pages * uint64_t{XC_PAGE_SIZE};
  }

  absl::Status CheckBridge(const std::string& bridge) override {
    if (if_nametoindex(bridge.c_str()) != 0) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat("there is no bridge ", bridge, " on this host"));
  }

  absl::Status CheckFile(const std::string& path) override {
    struct stat file;
    if (stat(path.c_str(), &file) == 0 && S_ISREG(file.st_mode)) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat("there is no file ", path, " on this host"));
  }

  DeviceModelFiles FilesOfDeviceModel(uint32_t domid, const std::string& name) const override {
    return {.state_file = absl::StrCat("/var/lib/xen/qemu-resume.", domid),
            .qmp_socket = QmpSocketPath(domid),
            .log = absl::StrCat("/var/log/xen/qemu-dm-", name, ".log")};
  }

  absl::Status SayDeviceModelRuns(uint32_t domid) override {
    return store_->Write(absl::StrCat(kDomains, "/0/device-model/", domid, "/state"), "running");
  }

  absl::Status Announce(const GuestNic& nic) override { return SendRarp(nic.bridge, nic.mac); }

 private:
  const XcHandle xc_;
  const std::unique_ptr<XenStore> store_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ReplicaHost>> OpenReplicaHost() {
  XcHandle xc(xc_interface_open(nullptr, nullptr, 0));
  if (xc == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "the hypervisor can not be reached (", std::strerror(errno),
        "): is this the first domain of a Xen host, and does this process run as root?"));
  }
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<XenStore> store, OpenXenStore());
  return std::make_unique<XenReplicaHost>(std::move(xc), std::move(store));
}

}  // namespace haven
