// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_REFUSALS_H_
#define HAVEN_XEN_PRIMARY_REFUSALS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "xen/base/domain_control.h"

namespace haven {

// What is known of a running guest when its protection is asked for.
struct XenGuestFacts {
  std::string name;
  XenDomainStatus status;
  std::string config_json;  // The toolstack's: `xl list -l NAME`, one element's "config".
  bool suspends = false;    // The guest's kernel offers it (control/feature-suspend).
  std::vector<std::string> host_reasons;  // ReasonsAgainstHost.
  uint64_t target_kib = 0;                // Memory that it is to have now; 0 if not known.
  uint64_t static_max_kib = 0;            // Memory that it was started with; 0 if not known.
  uint64_t video_kib = 0;                 // Of that for a video card, and not in the target.
  std::string device_model;               // The toolstack's word for its kind; empty: none.
};

struct XenRefusalOptions {
  bool unsafe_disk = false;  // The owner knows that writable disks are not part of an epoch.
};

// OK if the guest can be protected. FailedPrecondition names every reason against it, each with
// what to do about it.
absl::Status CheckProtectable(const XenGuestFacts& facts, const XenRefusalOptions& options);

// Whether a guest made so has a disk that it can write. What is no such configuration has none.
bool WritesDisks(absl::string_view config_json);

// The "config" of the one element in what `xl list -l` prints, as text, and the number of its
// vCPUs. InvalidArgument: it is not that.
struct XenToolstackConfig {
  std::string json;
  uint32_t max_vcpus = 0;
};
absl::StatusOr<XenToolstackConfig> ParseXlList(absl::string_view printed);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_REFUSALS_H_
