// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_RAM_MAP_H_
#define HAVEN_XEN_BASE_RAM_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "xen/base/domain_control.h"

namespace haven {

// Which frames of a domain are memory of the guest, and which belong to toolstack and hypervisor.
struct RamMap {
  uint64_t frame_count = 0;   // Highest frame number plus one.
  std::vector<uint64_t> ram;  // One bit a frame: RAM that is part of an epoch.
  // Frames that have a page but not the guest's own: its rings with the toolstack
  // (HVM_PARAM_*_PFN). Rising, without repetition.
  std::vector<uint64_t> special;
  uint64_t ram_frames = 0;
  uint64_t batches = 0;  // Hypercalls that the search took.
};

// Asks the hypervisor for the types of frames, 1024 by one hypercall, until every page that the
// domain has is found: one page lies at one frame, and nothing else can follow. Frames of the
// hypervisor (shared info, grant tables), of no memory, and `special` ones are not RAM.
// FailedPrecondition: a frame is of a type that an HVM or PVH guest does not have (a page table
// pinned by a PV guest, a broken page), with its number; else errors of the control.
absl::StatusOr<RamMap> ReadRamMap(XenDomainControl& control);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_RAM_MAP_H_
