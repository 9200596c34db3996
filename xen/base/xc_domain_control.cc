// SPDX-License-Identifier: Apache-2.0
#include "xen/base/xc_domain_control.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "xen/base/libxc.h"

namespace haven {

namespace {

constexpr unsigned kTypeShift = 28;

struct CloseXc {
  void operator()(xc_interface* xc) const { xc_interface_close(xc); }
};
struct CloseDeviceModel {
  void operator()(xendevicemodel_handle* handle) const { xendevicemodel_close(handle); }
};
struct DestroyPolicy {
  void operator()(xc_cpu_policy_t* policy) const { xc_cpu_policy_destroy(policy); }
};
using XcHandle = std::unique_ptr<xc_interface, CloseXc>;
using DeviceModelHandle = std::unique_ptr<xendevicemodel_handle, CloseDeviceModel>;

// Memory that the hypervisor can write to.
class HypercallBuffer {
 public:
  HypercallBuffer(xc_interface* xc, int pages) : xc_(xc), pages_(pages) {
    // As the library's DECLARE_HYPERCALL_BUFFER, which is C only.
    buffer_.ubuf = reinterpret_cast<void*>(-1);
    words_ = static_cast<uint64_t*>(xc__hypercall_buffer_alloc_pages(xc_, &buffer_, pages_));
  }
  ~HypercallBuffer() {
    if (words_ != nullptr) xc__hypercall_buffer_free_pages(xc_, &buffer_, pages_);
  }
  HypercallBuffer(const HypercallBuffer&) = delete;
  HypercallBuffer& operator=(const HypercallBuffer&) = delete;

  xc_hypercall_buffer_t* get() { return &buffer_; }
  uint64_t* words() const { return words_; }

 private:
  xc_interface* const xc_;
  const int pages_;
  xc_hypercall_buffer_t buffer_ = {};
  uint64_t* words_ = nullptr;
};

class XcDomainControl final : public XenDomainControl {
 public:
  XcDomainControl(XcHandle xc, DeviceModelHandle device_model, uint32_t domid)
      : xc_(std::move(xc)), device_model_(std::move(device_model)), domid_(domid) {}

  uint32_t domid() const override { return domid_; }

  absl::StatusOr<XenDomainStatus> Status() override {
    xc_dominfo_t info;
    const int found = xc_domain_getinfo(xc_.get(), domid_, 1, &info);
    if (found < 0 && errno != ESRCH) return Error("xc_domain_getinfo");
    if (found != 1 || info.domid != domid_) return Gone();
    XenDomainStatus status;
    std::copy_n(std::begin(info.handle), status.uuid.size(), status.uuid.begin());
    // A number is given to another domain once the old one is gone.
    if (uuid_.has_value() && *uuid_ != status.uuid) return Gone();
    uuid_ = status.uuid;
    status.dying = info.dying;
    // libxenctrl reports a crash in a flag of its own.
    status.shutdown = info.shutdown || info.crashed;
    status.reason = static_cast<XenShutdown>(info.shutdown_reason);
    status.paused = info.paused;
    status.hvm = info.hvm;
    status.hap = info.hap;
    status.pages = info.nr_pages;
    return status;
  }

  absl::StatusOr<uint64_t> FrameCount() override {
    xen_pfn_t frames = 0;
    if (xc_domain_nr_gpfns(xc_.get(), domid_, &frames) < 0) return Error("xc_domain_nr_gpfns");
    return frames;
  }

  absl::Status FrameTypes(std::span<uint64_t> frames) override {
    static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t));
    HAVEN_CHECK_LE(frames.size(), kFrameTypesMax);
    if (xc_get_pfn_type_batch(xc_.get(), domid_, static_cast<unsigned>(frames.size()),
                              frames.data()) != 0) {
      return Error("xc_get_pfn_type_batch");
    }
    for (uint64_t& frame : frames) frame >>= kTypeShift;
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> HvmParam(uint32_t index) override {
    uint64_t value = 0;
    if (xc_hvm_param_get(xc_.get(), domid_, index, &value) != 0) return Error("xc_hvm_param_get");
    return value;
  }

  absl::Status LogDirtyPrepare(uint64_t frames) override {
    const uint64_t bytes = (frames + 63) / 64 * sizeof(uint64_t);
    const uint64_t pages = (bytes + XC_PAGE_SIZE - 1) / XC_PAGE_SIZE;
    HAVEN_CHECK_LE(pages, static_cast<uint64_t>(std::numeric_limits<int>::max()));
    log_ = std::make_unique<HypercallBuffer>(xc_.get(), static_cast<int>(pages));
    if (log_->words() == nullptr) return Error("allocate the bitmap of dirty frames");
    log_frames_ = frames;
    return absl::OkStatus();
  }

  absl::Status LogDirtyOn() override {
    return ShadowOp(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, "turn log-dirty on");
  }

  absl::Status LogDirtyOff() override {
    return ShadowOp(XEN_DOMCTL_SHADOW_OP_OFF, "turn log-dirty off");
  }

  absl::StatusOr<std::span<const uint64_t>> LogDirtyClean(bool stopped) override {
    return ReadLog(XEN_DOMCTL_SHADOW_OP_CLEAN, stopped, "xc_logdirty_control(CLEAN)");
  }

  absl::StatusOr<std::span<const uint64_t>> LogDirtyPeek(bool stopped) override {
    return ReadLog(XEN_DOMCTL_SHADOW_OP_PEEK, stopped, "xc_logdirty_control(PEEK)");
  }

  absl::StatusOr<uint64_t> LogDirtyCount() override {
    // A bitmap of no frames: the hypervisor walks through none, and the statistics are exact.
    xc_shadow_op_stats_t stats = {};
    if (xc_logdirty_control(xc_.get(), domid_, XEN_DOMCTL_SHADOW_OP_PEEK, nullptr, 0, 0, &stats) <
        0) {
      return LogError("xc_logdirty_control(PEEK)");
    }
    return stats.dirty_count;
  }

  absl::Status MarkDirty(uint64_t frame) override {
    if (xendevicemodel_modified_memory(device_model_.get(), static_cast<domid_t>(domid_), frame,
                                       1) != 0) {
      return Error("xendevicemodel_modified_memory");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> HvmContextBytes() override {
    const int bytes = xc_domain_hvm_getcontext(xc_.get(), domid_, nullptr, 0);
    if (bytes <= 0) return Error("xc_domain_hvm_getcontext");
    return static_cast<size_t>(bytes);
  }

  absl::StatusOr<size_t> HvmContext(std::span<std::byte> out) override {
    const uint32_t room =
        static_cast<uint32_t>(std::min<size_t>(out.size(), std::numeric_limits<uint32_t>::max()));
    const int bytes =
        xc_domain_hvm_getcontext(xc_.get(), domid_, reinterpret_cast<uint8_t*>(out.data()), room);
    if (bytes > 0) return static_cast<size_t>(bytes);
    const absl::Status error = Error("xc_domain_hvm_getcontext");
    return errno == ENOSPC ? absl::ResourceExhaustedError(error.message()) : error;
  }

  absl::StatusOr<XenTscInfo> Tsc() override {
    XenTscInfo info;
    if (xc_domain_get_tsc_info(xc_.get(), domid_, &info.mode, &info.elapsed_ns, &info.khz,
                               &info.incarnation) != 0) {
      return Error("xc_domain_get_tsc_info");
    }
    return info;
  }

  absl::StatusOr<XenCpuPolicy> CpuPolicy() override {
    const std::unique_ptr<xc_cpu_policy_t, DestroyPolicy> policy(xc_cpu_policy_init());
    if (policy == nullptr) return Error("xc_cpu_policy_init");
    uint32_t leaves = 0;
    uint32_t msrs = 0;
    if (xc_cpu_policy_get_size(xc_.get(), &leaves, &msrs) != 0) {
      return Error("xc_cpu_policy_get_size");
    }
    if (xc_cpu_policy_get_domain(xc_.get(), domid_, policy.get()) != 0) {
      return Error("xc_cpu_policy_get_domain");
    }
    std::vector<xen_cpuid_leaf_t> cpuid(leaves);
    std::vector<xen_msr_entry_t> msr(msrs);
    if (xc_cpu_policy_serialise(xc_.get(), policy.get(), cpuid.data(), &leaves, msr.data(),
                                &msrs) != 0) {
      return Error("xc_cpu_policy_serialise");
    }
    XenCpuPolicy result;
    const auto cpuid_bytes = std::as_bytes(std::span(cpuid).first(leaves));
    const auto msr_bytes = std::as_bytes(std::span(msr).first(msrs));
    result.cpuid.assign(cpuid_bytes.begin(), cpuid_bytes.end());
    result.msr.assign(msr_bytes.begin(), msr_bytes.end());
    return result;
  }

  absl::Status ResumeCancelled() override {
    if (xc_domain_resume(xc_.get(), domid_, 1) == 0) return absl::OkStatus();
    const absl::Status error = Error("xc_domain_resume");
    return errno == EINVAL ? absl::FailedPreconditionError(error.message()) : error;
  }

  absl::Status Unpause() override {
    if (xc_domain_unpause(xc_.get(), domid_) != 0) return Error("xc_domain_unpause");
    return absl::OkStatus();
  }

  absl::Status Destroy() override {
    if (xc_domain_destroy(xc_.get(), domid_) != 0) return Error("xc_domain_destroy");
    return absl::OkStatus();
  }

 private:
  std::string Name() const { return absl::StrCat("domain ", domid_); }

  absl::Status Gone() const {
    return absl::NotFoundError(absl::StrCat(Name(), " does not exist any more"));
  }

  // errno is kept.
  absl::Status Error(const char* call) const {
    const int error = errno;
    if (error == ESRCH) return Gone();
    const absl::Status status = absl::InternalError(
        absl::StrFormat("%s: %s failed: errno=%d (%s)", Name(), call, error, std::strerror(error)));
    errno = error;
    return status;
  }

  absl::StatusOr<std::span<const uint64_t>> ReadLog(unsigned operation, bool stopped,
                                                    const char* call) {
    HAVEN_CHECK(log_ != nullptr);
    const long long done =
        xc_logdirty_control(xc_.get(), domid_, operation, log_->get(), log_frames_,
                            stopped ? XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL : 0, nullptr);
    if (done < 0) return LogError(call);
    if (static_cast<uint64_t>(done) != log_frames_) {
      return absl::InternalError(absl::StrCat(Name(), ": the log of dirty frames covers ", done,
                                              " frames instead of ", log_frames_));
    }
    return std::span<const uint64_t>(log_->words(), (log_frames_ + 63) / 64);
  }

  absl::Status LogError(const char* call) const {
    const absl::Status error = Error(call);
    return errno == ENOMEM ? absl::DataLossError(error.message()) : error;
  }

  absl::Status ShadowOp(unsigned operation, const char* what) {
    if (xc_shadow_control(xc_.get(), domid_, operation, nullptr, 0) >= 0) return absl::OkStatus();
    const absl::Status error = Error(what);
    if (errno == EINVAL) return absl::AlreadyExistsError(error.message());
    if (errno == EOPNOTSUPP) return absl::UnimplementedError(error.message());
    return error;
  }

  const XcHandle xc_;
  const DeviceModelHandle device_model_;
  const uint32_t domid_;
  std::optional<std::array<uint8_t, 16>> uuid_;
  std::unique_ptr<HypercallBuffer> log_;
  uint64_t log_frames_ = 0;
};

}  // namespace

std::string FormatXenUuid(const std::array<uint8_t, 16>& uuid) {
  std::string text;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppendFormat(&text, "%02x", uuid[i]);
  }
  return text;
}

absl::StatusOr<std::unique_ptr<XenDomainControl>> OpenXenDomain(uint32_t domid) {
  XcHandle xc(xc_interface_open(nullptr, nullptr, 0));
  if (xc == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "the hypervisor can not be reached (", std::strerror(errno),
        "): is this the first domain of a Xen host, and does this process run as root?"));
  }
  DeviceModelHandle device_model(xendevicemodel_open(nullptr, 0));
  if (device_model == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("open the device model interface: ", std::strerror(errno)));
  }
  auto control = std::make_unique<XcDomainControl>(std::move(xc), std::move(device_model), domid);
  HAVEN_RETURN_IF_ERROR(control->Status().status());
  return control;
}

}  // namespace haven
