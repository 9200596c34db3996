// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/workload.h"

#include <algorithm>

namespace haven {
namespace {

uint64_t ShareOf(uint64_t pages, uint32_t ppm) { return pages * ppm / kPpm; }

}  // namespace

VcpuWorkload::VcpuWorkload(const SyntheticSpec& spec, const SyntheticLayout& layout, uint32_t vcpu)
    : layout_(layout),
      key_(SyntheticContentKey(spec) + vcpu),
      range_(layout.Partition(vcpu)),
      block_bytes_(spec.block_bytes),
      blocks_per_page_(static_cast<uint32_t>(kPageBytes / spec.block_bytes)),
      locality_ppm_(spec.locality_ppm),
      hot_pages_(std::max<uint64_t>(1, ShareOf(range_.pages, spec.hot_ppm))),
      fill_blocks_(ShareOf(range_.pages, spec.fill_ppm) * blocks_per_page_) {}

}  // namespace haven
