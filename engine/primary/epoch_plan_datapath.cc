// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "engine/base/check.h"
#include "engine/primary/epoch_plan.h"

namespace haven {
namespace {

constexpr uint32_t kHeaderBytes = kFrameHeaderBytes;
constexpr uint32_t kPage = kPageBytes;

// A state frame with less room than this would have no body.
constexpr uint32_t kMinFragmentRoom = kHeaderBytes + kFrameAlignment;

}  // namespace

void EpochPlan::Reset(const DirtySets& sets, uint64_t slot_limit) {
  HAVEN_CHECK_EQ(sets.domains(), max_state_bytes_.size());
  HAVEN_CHECK_LE(slot_limit, max_slots_);
  HAVEN_CHECK_EQ(sets.CountInflight(), 0u);
  Clear();
  slot_limit_ = slot_limit;
  needed_slots_ = 0;
}

void EpochPlan::Clear() {
  runs_.clear();
  fragments_.clear();
  slots_.clear();
  pages_ = 0;
  // A slot is opened by the first thing that goes into it.
  position_ = {.slots = 0, .used = slot_bytes_};
}

EpochPlan::Outcome EpochPlan::PlanCheckpoint(DirtySets& sets, uint64_t slot_limit) {
  Reset(sets, slot_limit);
  for (size_t domain = 0; domain < sets.domains(); ++domain) {
    DirtySets::Runs runs(sets, domain, 0);
    FrameRun run;
    while (runs.Next(&run)) {
      const uint32_t placed = Place(static_cast<uint16_t>(domain), run);
      sets.Take(domain, {.first = run.first, .pages = placed});
    }
  }
  needed_slots_ = LayOutStates(position_, max_state_bytes_, [](const StateFragment&, uint64_t) {});
  if (needed_slots_ <= slot_limit) return Outcome::kPlanned;
  sets.RestoreInflight();
  Clear();
  return Outcome::kTooLarge;
}

void EpochPlan::PlanSync(DirtySets& sets, uint64_t slot_limit) {
  Reset(sets, slot_limit);
  if (sets.CountPending() <= slot_limit * min_slot_pages()) {
    // Everything fits, even if no two pages are adjacent.
    sync_domain_ = 0;
    sync_gfn_ = 0;
  }
  const bool from_start = sync_domain_ == 0 && sync_gfn_ == 0;
  PlanSyncPass(sets);
  if (pages_ == 0 && !from_start) PlanSyncPass(sets);
  needed_slots_ = slots_.size();
}

// Plans from where the last pass ended to the end of memory, or until the slots are full, and
// remembers where the next pass begins.
void EpochPlan::PlanSyncPass(DirtySets& sets) {
  Gfn from = sync_gfn_;
  for (size_t domain = sync_domain_; domain < sets.domains(); ++domain, from = 0) {
    DirtySets::Runs runs(sets, domain, from);
    FrameRun run;
    while (runs.Next(&run)) {
      const uint32_t placed = Place(static_cast<uint16_t>(domain), run);
      sets.Take(domain, {.first = run.first, .pages = placed});
      if (placed < run.pages) {
        sync_domain_ = domain;
        sync_gfn_ = run.first + placed;
        return;
      }
    }
  }
  sync_domain_ = 0;
  sync_gfn_ = 0;
}

// Advances the position by all of a run. Lays out those of its pages that are within the slot limit
// and returns how many they are.
uint32_t EpochPlan::Place(uint16_t domain, const FrameRun& run) {
  uint32_t placed = 0;
  for (uint32_t done = 0; done < run.pages;) {
    if (slot_bytes_ - position_.used < kHeaderBytes + kPage) {
      position_ = {.slots = position_.slots + 1, .used = kChunkHeaderBytes};
    }
    const uint32_t offset = position_.used + kHeaderBytes;
    const uint32_t pages = std::min(run.pages - done, (slot_bytes_ - offset) / kPage);
    position_.used = offset + pages * kPage;
    if (position_.slots <= slot_limit_) {
      HAVEN_CHECK_LT(runs_.size(), runs_.capacity());
      OpenSlot(position_.slots).runs += 1;
      runs_.push_back(
          {.first = run.first + done, .pages = pages, .slot_offset = offset, .domain = domain});
      placed += pages;
    }
    done += pages;
  }
  pages_ += placed;
  return placed;
}

// The last slot of the epoch, which becomes the `slots`-th if it is not yet.
PlannedSlot& EpochPlan::OpenSlot(uint64_t slots) {
  if (slots_.size() < slots) {
    HAVEN_CHECK_EQ(slots_.size() + 1, slots);
    HAVEN_CHECK_LT(slots_.size(), slots_.capacity());
    slots_.push_back({.first_run = static_cast<uint32_t>(runs_.size()),
                      .first_fragment = static_cast<uint32_t>(fragments_.size())});
  }
  return slots_.back();
}

// Calls visit(fragment, slots up to and with its own) for each fragment and returns the number of
// slots at the end. A shorter state never ends later: it leaves at least as much room to the next.
template <typename Visit>
uint64_t EpochPlan::LayOutStates(Position position, std::span<const uint32_t> state_bytes,
                                 const Visit& visit) const {
  for (size_t domain = 0; domain < state_bytes.size(); ++domain) {
    for (uint32_t offset = 0; offset < state_bytes[domain];) {
      if (slot_bytes_ - position.used < kMinFragmentRoom) {
        position = {.slots = position.slots + 1, .used = kChunkHeaderBytes};
      }
      const uint32_t room = slot_bytes_ - position.used - kHeaderBytes;
      const uint32_t bytes = std::min(state_bytes[domain] - offset, room);
      visit(StateFragment{.domain = static_cast<uint16_t>(domain),
                          .offset = offset,
                          .bytes = bytes,
                          .total = state_bytes[domain]},
            position.slots);
      position.used += kHeaderBytes + static_cast<uint32_t>(PaddedBodyBytes(bytes));
      offset += bytes;
    }
  }
  return position.slots;
}

void EpochPlan::AddStates(std::span<const uint32_t> state_bytes) {
  HAVEN_CHECK_EQ(state_bytes.size(), max_state_bytes_.size());
  HAVEN_CHECK(fragments_.empty());
  for (size_t i = 0; i < state_bytes.size(); ++i) {
    HAVEN_CHECK_GE(state_bytes[i], 1u) << "domain=" << i;
    HAVEN_CHECK_LE(state_bytes[i], max_state_bytes_[i]) << "domain=" << i;
  }
  const uint64_t slots =
      LayOutStates(position_, state_bytes, [this](const StateFragment& fragment, uint64_t slot) {
        HAVEN_CHECK_LT(fragments_.size(), fragments_.capacity());
        OpenSlot(slot).fragments += 1;
        fragments_.push_back(fragment);
      });
  HAVEN_CHECK_LE(slots, needed_slots_);
  HAVEN_CHECK_LE(slots, slot_limit_);
}

}  // namespace haven
