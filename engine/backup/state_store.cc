// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/state_store.h"

#include <algorithm>

#include "engine/base/check.h"

namespace haven {

StateStore::StateStore(std::span<const uint32_t> max_state_bytes)
    : domain_count_(static_cast<uint16_t>(max_state_bytes.size())) {
  HAVEN_CHECK_GE(max_state_bytes.size(), 1u);
  HAVEN_CHECK_LE(max_state_bytes.size(), kMaxDomains);
  for (size_t set = 0; set < buffers_.size(); ++set) {
    for (const uint32_t bytes : max_state_bytes) {
      HAVEN_CHECK_GE(bytes, 1u);
      HAVEN_CHECK_LE(bytes, kMaxStateBytes);
      // Writing the zeros touches every page, so no fault happens on the epoch path.
      buffers_[set].emplace_back(bytes);
    }
    spans_[set].assign(buffers_[set].begin(), buffers_[set].end());
  }
}

std::span<const std::span<std::byte>> StateStore::spare() const { return spans_[spare_]; }

void StateStore::Commit(Epoch epoch, std::span<const uint32_t> state_bytes) {
  HAVEN_CHECK_GT(epoch, epoch_);
  HAVEN_CHECK_EQ(state_bytes.size(), domain_count_) << "epoch=" << epoch;
  for (uint16_t domain = 0; domain < domain_count_; ++domain) {
    HAVEN_CHECK_LE(state_bytes[domain], max_state_bytes(domain)) << "epoch=" << epoch;
  }
  std::copy(state_bytes.begin(), state_bytes.end(), state_bytes_.begin());
  spare_ = 1 - spare_;
  epoch_ = epoch;
}

std::span<const std::byte> StateStore::state(uint16_t domain) const {
  HAVEN_CHECK_LT(domain, domain_count_);
  HAVEN_CHECK_NE(epoch_, kNoEpoch);
  return spans_[1 - spare_][domain].first(state_bytes_[domain]);
}

}  // namespace haven
