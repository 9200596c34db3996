// SPDX-License-Identifier: Apache-2.0
#include "xen/base/ram_map.h"

#include <xen/hvm/params.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// XEN_DOMCTL_PFINFO_* (xen/domctl.h), shifted down.
constexpr uint64_t kOrdinary = 0x0;
constexpr uint64_t kNoMemory = 0xf;

// Rings and buffers between a guest and its toolstack: the copy has its own. Parameters that hold a
// frame number, or 0.
constexpr std::array<uint32_t, 7> kSpecialParams = {
    HVM_PARAM_STORE_PFN,       HVM_PARAM_CONSOLE_PFN,     HVM_PARAM_IOREQ_PFN,
    HVM_PARAM_BUFIOREQ_PFN,    HVM_PARAM_PAGING_RING_PFN, HVM_PARAM_MONITOR_RING_PFN,
    HVM_PARAM_SHARING_RING_PFN};
// More of them than any device model has.
constexpr uint64_t kIoreqPagesMax = 64;

absl::StatusOr<std::vector<uint64_t>> SpecialFrames(XenDomainControl& control) {
  std::vector<uint64_t> frames;
  for (const uint32_t param : kSpecialParams) {
    HAVEN_ASSIGN_OR_RETURN(const uint64_t frame, control.HvmParam(param));
    if (frame != 0) frames.push_back(frame);
  }
  HAVEN_ASSIGN_OR_RETURN(const uint64_t first, control.HvmParam(HVM_PARAM_IOREQ_SERVER_PFN));
  HAVEN_ASSIGN_OR_RETURN(const uint64_t pages, control.HvmParam(HVM_PARAM_NR_IOREQ_SERVER_PAGES));
  if (first != 0) {
    for (uint64_t i = 0; i < std::min(pages, kIoreqPagesMax); ++i) frames.push_back(first + i);
  }
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  return frames;
}

// Takes the frames [first, first + types.size()) over into the map. Returns how many have a page.
absl::StatusOr<uint64_t> AddBatch(uint32_t domid, std::span<const uint64_t> types, uint64_t first,
                                  std::span<const uint64_t> special, RamMap& map) {
  uint64_t found = 0;
  for (size_t i = 0; i < types.size(); ++i) {
    const uint64_t frame = first + i;
    if (types[i] == kNoMemory) continue;
    if (types[i] != kOrdinary) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "domain %d: frame %#x of its memory is of type %d, and only ordinary memory can be "
          "copied: is it a PV guest, or is its memory broken?",
          domid, frame, types[i]));
    }
    ++found;
    if (std::binary_search(special.begin(), special.end(), frame)) {
      map.special.push_back(frame);
      continue;
    }
    map.ram[static_cast<size_t>(frame / 64)] |= uint64_t{1} << (frame % 64);
    ++map.ram_frames;
  }
  return found;
}

}  // namespace

absl::StatusOr<RamMap> ReadRamMap(XenDomainControl& control) {
  constexpr uint64_t kBatch = XenDomainControl::kFrameTypesMax;
  RamMap map;
  HAVEN_ASSIGN_OR_RETURN(const XenDomainStatus status, control.Status());
  HAVEN_ASSIGN_OR_RETURN(map.frame_count, control.FrameCount());
  HAVEN_ASSIGN_OR_RETURN(const std::vector<uint64_t> special, SpecialFrames(control));
  map.ram.assign(static_cast<size_t>((map.frame_count + 63) / 64), 0);
  std::array<uint64_t, kBatch> types;
  // A small guest has its RAM at the bottom, the toolstack's pages below 4 GiB, and a hole of
  // thousands of batches between: from an end that has run empty the search goes on at the other.
  uint64_t bottom = 0, top = (map.frame_count + kBatch - 1) / kBatch, found = 0;
  for (bool upward = true; bottom < top && found < status.pages;) {
    const uint64_t first = (upward ? bottom++ : --top) * kBatch;
    const std::span batch = std::span(types).first(
        static_cast<size_t>(std::min<uint64_t>(kBatch, map.frame_count - first)));
    for (size_t i = 0; i < batch.size(); ++i) batch[i] = first + i;
    HAVEN_RETURN_IF_ERROR(control.FrameTypes(batch));
    ++map.batches;
    HAVEN_ASSIGN_OR_RETURN(const uint64_t pages,
                           AddBatch(control.domid(), batch, first, special, map));
    found += pages;
    if (pages == 0) upward = !upward;
  }
  std::sort(map.special.begin(), map.special.end());
  return map;
}

}  // namespace haven
