// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_DOMAIN_CONTROL_H_
#define HAVEN_XEN_BASE_DOMAIN_CONTROL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xen/base/state.h"

namespace haven {

// Why a domain is shut down, as the hypervisor counts (xen/sched.h).
enum class XenShutdown : uint32_t {
  kPoweroff = 0,
  kReboot = 1,
  kSuspend = 2,
  kCrash = 3,
  kWatchdog = 4,
  kSoftReset = 5,
};

// What the hypervisor says about a domain at one moment.
struct XenDomainStatus {
  std::array<uint8_t, 16> uuid = {};
  bool dying = false;
  bool shutdown = false;  // Stopped by itself, or by the toolstack in its place.
  bool paused = false;
  bool hvm = false;                             // HVM or PVH.
  bool hap = false;                             // Nested paging.
  XenShutdown reason = XenShutdown::kPoweroff;  // Only if `shutdown`.
  uint64_t pages = 0;                           // In its memory now.

  bool suspended() const { return shutdown && !dying && reason == XenShutdown::kSuspend; }
};

struct XenCpuPolicy {
  std::vector<std::byte> cpuid;  // xen_cpuid_leaf_t, one behind the other.
  std::vector<std::byte> msr;    // xen_msr_entry_t.
};

// The hypercalls on one domain that replication needs. One thread. Every error names the domain and
// the call. NotFound: there is no such domain any more, or its number has gone to another one;
// Internal: the hypervisor refused, with errno. Other codes are named at the call.
class XenDomainControl {
 public:
  virtual ~XenDomainControl() = default;

  virtual uint32_t domid() const = 0;

  // Cheap: one hypercall, nothing is allocated.
  virtual absl::StatusOr<XenDomainStatus> Status() = 0;

  // Highest frame number plus one.
  virtual absl::StatusOr<uint64_t> FrameCount() = 0;

  // Replaces each of at most kFrameTypesMax frame numbers by the frame's type: bits 31-28 of the
  // hypervisor's answer, 0 for ordinary memory.
  static constexpr size_t kFrameTypesMax = 1024;
  virtual absl::Status FrameTypes(std::span<uint64_t> frames) = 0;

  virtual absl::StatusOr<uint64_t> HvmParam(uint32_t index) = 0;

  // Makes room for the log of so many frames; before the first LogDirtyClean.
  virtual absl::Status LogDirtyPrepare(uint64_t frames) = 0;
  // AlreadyExists: the hypervisor says EINVAL, which it does while log-dirty is on (and for guests
  // with devices passed through). Unimplemented: this guest can not be logged.
  virtual absl::Status LogDirtyOn() = 0;
  // Idempotent.
  virtual absl::Status LogDirtyOff() = 0;
  // The frames dirtied since the last call, one bit each, and clears the log. The words stay valid
  // until the next call. `stopped`: the guest is suspended, so that frames which the hypervisor
  // itself has mapped for writing count as dirty, too. With log-dirty off nothing is dirty, and no
  // error. DataLoss: the hypervisor had no memory to log everything (ENOMEM).
  virtual absl::StatusOr<std::span<const uint64_t>> LogDirtyClean(bool stopped) = 0;
  // The same without clearing the log: the guest goes on without new faults. Words and errors as
  // of LogDirtyClean.
  virtual absl::StatusOr<std::span<const uint64_t>> LogDirtyPeek(bool stopped) = 0;
  // How many frames the log has since LogDirtyClean; of a log that was only turned on, nothing that
  // means anything. Clears nothing: the guest stands still for a moment and goes on without new
  // faults. DataLoss as of LogDirtyClean.
  virtual absl::StatusOr<uint64_t> LogDirtyCount() = 0;
  // Logs a frame as dirty; nothing happens while log-dirty is off.
  virtual absl::Status MarkDirty(uint64_t frame) = 0;

  // Of the vCPUs and the emulated platform devices.
  virtual absl::StatusOr<size_t> HvmContextBytes() = 0;
  // Writes it to the front of `out` and returns its size. ResourceExhausted: `out` is too small.
  virtual absl::StatusOr<size_t> HvmContext(std::span<std::byte> out) = 0;
  virtual absl::StatusOr<XenTscInfo> Tsc() = 0;
  // What its processors are to it: as the records X86_CPUID_POLICY and X86_MSR_POLICY have it.
  virtual absl::StatusOr<XenCpuPolicy> CpuPolicy() = 0;

  // Lets a suspended guest go on as if its suspend had been cancelled. FailedPrecondition: it is
  // not suspended.
  virtual absl::Status ResumeCancelled() = 0;
  // Takes a pause away that a toolstack has put on it.
  virtual absl::Status Unpause() = 0;
  virtual absl::Status Destroy() = 0;
};

// In the usual form, lower case.
std::string FormatXenUuid(const std::array<uint8_t, 16>& uuid);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_DOMAIN_CONTROL_H_
