// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_builder.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/replica/layout.h"

namespace haven {
namespace {

std::vector<uint32_t> MaxStateBytes(std::span<Domain* const> domains) {
  std::vector<uint32_t> sizes;
  for (const Domain* domain : domains) {
    HAVEN_CHECK_LE(domain->max_state_bytes(), kMaxStateBytes) << "guest=" << domain->info().name;
    sizes.push_back(static_cast<uint32_t>(domain->max_state_bytes()));
  }
  return sizes;
}

uint32_t SlotsOf(std::span<const std::byte> staging, uint32_t slot_bytes) {
  HAVEN_CHECK_GE(slot_bytes, kMinSlotBytes);
  return static_cast<uint32_t>(std::min<uint64_t>(staging.size() / slot_bytes, UINT32_MAX));
}

}  // namespace

EpochBuilder::EpochBuilder(std::span<Domain* const> domains, DirtySets& sets,
                           std::span<std::byte> staging, uint32_t slot_bytes, CopyPool& pool,
                           const Clock& clock, CodecStage* codec, SealStage* seal)
    : domains_(domains.begin(), domains.end()),
      sets_(sets),
      staging_(staging),
      pool_(pool),
      clock_(clock),
      codec_(codec),
      seal_(seal),
      plan_(slot_bytes, SlotsOf(staging, slot_bytes), MaxStateBytes(domains)) {
  HAVEN_CHECK_EQ(sets.domains(), domains.size());
  for (size_t i = 0; i < domains_.size(); ++i) {
    HAVEN_CHECK_EQ(&sets.memory(i), &domains_[i]->memory()) << "guest=" << domains_[i]->info().name;
    state_room_.emplace_back(domains_[i]->max_state_bytes());
  }
  states_.resize(domains_.size());
  state_bytes_.resize(domains_.size());
  chunks_.reserve(plan_.max_slots());
  slot_zero_pages_.resize(plan_.max_slots());
  if (codec_ != nullptr) image_slots_.reserve(plan_.max_slots());
}

}  // namespace haven
