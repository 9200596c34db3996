// SPDX-License-Identifier: Apache-2.0
//
// Which pages an epoch carries and where each of them lies in staging.
#ifndef HAVEN_ENGINE_PRIMARY_EPOCH_PLAN_H_
#define HAVEN_ENGINE_PRIMARY_EPOCH_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/primary/dirty_sets.h"
#include "engine/replica/chunk.h"
#include "engine/replica/frame.h"
#include "engine/replica/identity.h"

namespace haven {

// Adjacent pages of one domain that are copied as one and lie in one slot as one raw run.
struct PageRun {
  Gfn first = 0;
  uint32_t pages = 0;
  uint32_t slot_offset = 0;  // Of the first page within its slot, in bytes.
  uint16_t domain = 0;
};

// Piece of a domain's state that lies in one slot.
struct StateFragment {
  uint16_t domain = 0;
  uint32_t offset = 0;  // Within the state, in bytes.
  uint32_t bytes = 0;
  uint32_t total = 0;  // Size of the whole state.
};

// What the plan puts into one slot: first runs, then fragments, as indices into runs() and
// fragments().
struct PlannedSlot {
  uint32_t first_run = 0;
  uint32_t runs = 0;
  uint32_t first_fragment = 0;
  uint32_t fragments = 0;
};

// Lays the pages of an epoch out in slots, in the order in which the backup wants them: ascending
// by (domain, frame number), the chunk's header first, a frame's header before its pages, no run
// across the end of a slot or of a chunk of GuestMemory. Nothing is written to staging.
//
// Everything is allocated by the constructor for the worst case. Not thread-safe.
class EpochPlan {
 public:
  // `slot_bytes` as in JournalGeometry; `max_slots` >= 1; `max_state_bytes` has one entry per
  // domain, at most kMaxDomains (all checked).
  EpochPlan(uint32_t slot_bytes, uint32_t max_slots, std::span<const uint32_t> max_state_bytes);

  enum class Outcome : uint8_t {
    kPlanned,
    // A checkpoint that needs more slots than it may have. Nothing is in flight, all is pending.
    kTooLarge,
  };

  // Plans all that is pending, or nothing. Reserves room for states of the largest size. Needs at
  // most `slot_limit` slots, which is at most max_slots (checked). Nothing may be in flight
  // (checked). In both cases needed_slots() says how many slots all of it takes. Moves what it
  // plans to the set in flight.
  Outcome PlanCheckpoint(DirtySets& sets, uint64_t slot_limit);

  // Plans as much as fits into `slot_limit` slots, without states. If not everything that is
  // pending fits, goes on where the last sync plan ended, up to the end of memory, so that a
  // sequence of plans comes by every page however fast others are dirtied. Same conditions.
  void PlanSync(DirtySets& sets, uint64_t slot_limit);

  // Lays the states out behind the pages of a checkpoint. Each is 1 byte to its maximum (checked),
  // so the room reserved by PlanCheckpoint is enough. At most once after each PlanCheckpoint.
  void AddStates(std::span<const uint32_t> state_bytes);

  // Pages planned.
  uint64_t pages() const { return pages_; }
  // Of a checkpoint: slots that it takes with states of the largest size, whether it was planned or
  // not. Of a sync plan: its slots.
  uint64_t needed_slots() const { return needed_slots_; }

  std::span<const PageRun> runs() const { return runs_; }
  std::span<const StateFragment> fragments() const { return fragments_; }
  // The slots of the epoch so far. Every one holds a run or a fragment.
  std::span<const PlannedSlot> slots() const { return slots_; }

  std::span<const PageRun> SlotRuns(const PlannedSlot& slot) const {
    return runs().subspan(slot.first_run, slot.runs);
  }
  std::span<const StateFragment> SlotFragments(const PlannedSlot& slot) const {
    return fragments().subspan(slot.first_fragment, slot.fragments);
  }

  // Pages that fit into one slot if no two of them are adjacent; otherwise there may be more.
  uint32_t min_slot_pages() const {
    return static_cast<uint32_t>((slot_bytes_ - kChunkHeaderBytes) /
                                 (kFrameHeaderBytes + kPageBytes));
  }

  uint32_t slot_bytes() const { return slot_bytes_; }
  uint32_t max_slots() const { return max_slots_; }

 private:
  // A place in the stream of slots: `used` bytes of slot `slots - 1` are taken.
  struct Position {
    uint64_t slots = 0;
    uint32_t used = 0;
  };

  void Reset(const DirtySets& sets, uint64_t slot_limit);
  void Clear();
  void PlanSyncPass(DirtySets& sets);
  uint32_t Place(uint16_t domain, const FrameRun& run);
  PlannedSlot& OpenSlot(uint64_t slots);

  template <typename Visit>
  uint64_t LayOutStates(Position position, std::span<const uint32_t> state_bytes,
                        const Visit& visit) const;

  const uint32_t slot_bytes_;
  const uint32_t max_slots_;
  const std::vector<uint32_t> max_state_bytes_;

  std::vector<PageRun> runs_;
  std::vector<StateFragment> fragments_;
  std::vector<PlannedSlot> slots_;

  Position position_;
  uint64_t slot_limit_ = 0;
  uint64_t pages_ = 0;
  uint64_t needed_slots_ = 0;

  // Where the next sync plan goes on.
  size_t sync_domain_ = 0;
  Gfn sync_gfn_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_EPOCH_PLAN_H_
