// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_plan.h"

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "engine/base/random.h"
#include "engine/replica/layout.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using Page = std::pair<size_t, Gfn>;

constexpr uint32_t kSlotBytes = kMinSlotBytes;
constexpr uint32_t kSlotPages = 15;  // Per slot of 64 KiB, adjacent or not.

class PlanTest : public ::testing::Test {
 protected:
  // Domains of all RAM that nobody touches.
  void MakeSets(const std::vector<uint64_t>& domain_pages) {
    memories_.clear();
    pointers_.clear();
    for (const uint64_t pages : domain_pages) {
      const uint64_t chunks = (pages + GuestMemory::kChunkPages - 1) / GuestMemory::kChunkPages;
      memories_.push_back(std::make_unique<GuestMemory>(
          std::vector<std::byte*>(static_cast<size_t>(chunks)),
          std::vector<uint64_t>(static_cast<size_t>((pages + 63) / 64), ~uint64_t{0}), pages));
      pointers_.push_back(memories_.back().get());
    }
    sets_ = std::make_unique<DirtySets>(pointers_);
  }

  void Mark(size_t domain, Gfn first, uint64_t pages = 1) {
    for (Gfn gfn = first; gfn < first + pages; ++gfn) {
      sets_->Pending(domain)[gfn / 64] |= uint64_t{1} << (gfn % 64);
    }
  }

  std::set<Page> PendingPages() const {
    std::set<Page> pages;
    for (size_t domain = 0; domain < sets_->domains(); ++domain) {
      DirtySets::Runs runs(*sets_, domain, 0);
      FrameRun run;
      while (runs.Next(&run)) {
        for (Gfn gfn = run.first; gfn < run.first + run.pages; ++gfn) pages.emplace(domain, gfn);
      }
    }
    return pages;
  }

  // The planned pages; fails unless they are ascending and their places follow the chunk's layout
  // without gap, overlap or excess.
  std::set<Page> PlannedPages(const EpochPlan& plan) {
    std::set<Page> pages;
    Page last{0, 0};
    uint32_t next_run = 0;
    uint32_t next_fragment = 0;
    for (const PlannedSlot& slot : plan.slots()) {
      EXPECT_GE(slot.runs + slot.fragments, 1u);
      EXPECT_EQ(slot.first_run, next_run);
      EXPECT_EQ(slot.first_fragment, next_fragment);
      next_run += slot.runs;
      next_fragment += slot.fragments;
      uint64_t used = kChunkHeaderBytes;
      for (const PageRun& run : plan.SlotRuns(slot)) {
        EXPECT_GE(run.pages, 1u);
        EXPECT_EQ(run.slot_offset, used + kFrameHeaderBytes);
        used = run.slot_offset + uint64_t{run.pages} * kPageBytes;
        EXPECT_EQ(run.first / GuestMemory::kChunkPages,
                  (run.first + run.pages - 1) / GuestMemory::kChunkPages);
        for (Gfn gfn = run.first; gfn < run.first + run.pages; ++gfn) {
          const Page page{run.domain, gfn};
          EXPECT_TRUE(pages.empty() || last < page) << gfn;
          last = page;
          pages.insert(page);
        }
      }
      for (const StateFragment& fragment : plan.SlotFragments(slot)) {
        used += kFrameHeaderBytes + PaddedBodyBytes(fragment.bytes);
      }
      EXPECT_LE(used, plan.slot_bytes());
    }
    EXPECT_EQ(next_run, plan.runs().size());
    EXPECT_EQ(next_fragment, plan.fragments().size());
    EXPECT_EQ(pages.size(), plan.pages());
    return pages;
  }

  std::vector<std::unique_ptr<GuestMemory>> memories_;
  std::vector<const GuestMemory*> pointers_;
  std::unique_ptr<DirtySets> sets_;
};

constexpr uint32_t kOneState[] = {100};

TEST_F(PlanTest, NothingDirtyPlansStateOnly) {
  MakeSets({1000});
  EpochPlan plan(kSlotBytes, 4, kOneState);
  ASSERT_EQ(plan.PlanCheckpoint(*sets_, 4), EpochPlan::Outcome::kPlanned);
  EXPECT_EQ(plan.pages(), 0u);
  EXPECT_EQ(plan.needed_slots(), 1u);
  EXPECT_TRUE(plan.slots().empty());
  plan.AddStates(kOneState);
  ASSERT_EQ(plan.slots().size(), 1u);
  EXPECT_EQ(plan.fragments().size(), 1u);
}

TEST_F(PlanTest, NothingDirtySyncsNothing) {
  MakeSets({1000});
  EpochPlan plan(kSlotBytes, 4, kOneState);
  plan.PlanSync(*sets_, 4);
  EXPECT_TRUE(plan.slots().empty());
}

TEST_F(PlanTest, AdjacentPagesAreOneRun) {
  MakeSets({1000});
  Mark(0, 60, 10);
  Mark(0, 71);
  EpochPlan plan(kSlotBytes, 4, kOneState);
  ASSERT_EQ(plan.PlanCheckpoint(*sets_, 4), EpochPlan::Outcome::kPlanned);
  ASSERT_EQ(plan.runs().size(), 2u);
  EXPECT_EQ(plan.runs()[0].first, 60u);
  EXPECT_EQ(plan.runs()[0].pages, 10u);
  EXPECT_EQ(plan.runs()[1].first, 71u);
  EXPECT_EQ(sets_->CountInflight(), 11u);
  EXPECT_EQ(sets_->CountPending(), 0u);
}

TEST_F(PlanTest, CapacityExactlyFullAndOnePageMore) {
  // In a slot of 64 KiB 15 single pages leave 65536 - 64 - 15 * 4112 bytes; a state frame has a
  // header of 16. Adjacent pages leave more, but not a page.
  constexpr uint32_t kRest = kSlotBytes - 64 - kSlotPages * 4112;
  const uint32_t state[] = {kRest - 16};
  for (const uint64_t step : {1u, 2u}) {
    SCOPED_TRACE(step);
    MakeSets({1000});
    for (uint64_t i = 0; i < 4 * kSlotPages; ++i) Mark(0, i * step);
    EpochPlan plan(kSlotBytes, 4, state);
    ASSERT_EQ(plan.PlanCheckpoint(*sets_, 4), EpochPlan::Outcome::kPlanned);
    EXPECT_EQ(plan.needed_slots(), 4u);
    plan.AddStates(state);
    EXPECT_EQ(plan.slots().size(), 4u);
    EXPECT_EQ(PlannedPages(plan).size(), 4u * kSlotPages);
    sets_->RestoreInflight();

    Mark(0, 900);
    ASSERT_EQ(plan.PlanCheckpoint(*sets_, 4), EpochPlan::Outcome::kTooLarge);
    EXPECT_EQ(plan.needed_slots(), 5u);
    EXPECT_EQ(plan.pages(), 0u);
    EXPECT_TRUE(plan.slots().empty());
    EXPECT_EQ(sets_->CountInflight(), 0u);
    EXPECT_EQ(sets_->CountPending(), 4u * kSlotPages + 1);
  }
}

TEST_F(PlanTest, StateDecidesWhetherItFits) {
  constexpr uint32_t kRest = kSlotBytes - 64 - kSlotPages * 4112;
  MakeSets({1000});
  for (Gfn gfn = 0; gfn < 2 * kSlotPages; gfn += 2) Mark(0, gfn);
  const uint32_t one_byte_more[] = {kRest - 15};
  EpochPlan plan(kSlotBytes, 2, one_byte_more);
  ASSERT_EQ(plan.PlanCheckpoint(*sets_, 1), EpochPlan::Outcome::kTooLarge);
  EXPECT_EQ(plan.needed_slots(), 2u);
  ASSERT_EQ(plan.PlanCheckpoint(*sets_, 2), EpochPlan::Outcome::kPlanned);
  plan.AddStates(one_byte_more);
  EXPECT_EQ(plan.slots().size(), 2u);
}

TEST_F(PlanTest, ASmallerStateThanReservedTakesFewerSlots) {
  MakeSets({1000, 1000});
  Mark(1, 7);
  const uint32_t max[] = {10 * kSlotBytes, 3};
  EpochPlan plan(kSlotBytes, 20, max);
  ASSERT_EQ(plan.PlanCheckpoint(*sets_, 20), EpochPlan::Outcome::kPlanned);
  EXPECT_EQ(plan.needed_slots(), 11u);
  const uint32_t actual[] = {1, 1};
  plan.AddStates(actual);
  EXPECT_EQ(plan.slots().size(), 1u);
  EXPECT_EQ(plan.fragments().size(), 2u);
}

TEST_F(PlanTest, NoSlotsMeansNothingFits) {
  MakeSets({1000});
  Mark(0, 3);
  EpochPlan plan(kSlotBytes, 4, kOneState);
  EXPECT_EQ(plan.PlanCheckpoint(*sets_, 0), EpochPlan::Outcome::kTooLarge);
  plan.PlanSync(*sets_, 0);
  EXPECT_EQ(plan.pages(), 0u);
  EXPECT_EQ(sets_->CountPending(), 1u);
}

TEST_F(PlanTest, SyncTakesWhatFitsAndGoesOnBehindIt) {
  MakeSets({100, 100});
  sets_->MarkAll();
  EpochPlan plan(kSlotBytes, 4, std::vector<uint32_t>{1, 1});
  plan.PlanSync(*sets_, 4);
  EXPECT_EQ(plan.pages(), 4u * kSlotPages);
  EXPECT_EQ(plan.slots().size(), 4u);
  const std::set<Page> first = PlannedPages(plan);
  EXPECT_EQ(*first.rbegin(), Page(0, 59));
  sets_->DropInflight();
  // What was sent is dirty again at once; the next plan does not fall back to it.
  Mark(0, 0, 60);
  plan.PlanSync(*sets_, 4);
  const std::set<Page> second = PlannedPages(plan);
  EXPECT_EQ(*second.begin(), Page(0, 60));
  EXPECT_EQ(*second.rbegin(), Page(1, 19));
}

// Pages that are dirtied all the time must not keep others from being sent.
TEST_F(PlanTest, SyncComesByEveryPageHoweverFastOthersAreDirtied) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    MakeSets({200 + random.Below(2000), 1 + random.Below(500)});
    const uint32_t slots = static_cast<uint32_t>(1 + random.Below(5));
    EpochPlan plan(kSlotBytes, slots, std::vector<uint32_t>{1, 1});
    sets_->MarkAll();
    std::set<Page> never_sent = PendingPages();
    // One pass over memory, and one more because a pass may end early at the end of memory.
    const uint64_t plans_max = 2 * (never_sent.size() / (slots * kSlotPages) + 2);
    for (uint64_t i = 0; i < plans_max && !never_sent.empty(); ++i) {
      plan.PlanSync(*sets_, slots);
      ASSERT_GT(plan.pages(), 0u);
      for (const Page& page : PlannedPages(plan)) never_sent.erase(page);
      sets_->DropInflight();
      Mark(0, 0, 200);
      for (int j = 0; j < 100; ++j) Mark(0, random.Below(memories_[0]->page_count()));
    }
    EXPECT_TRUE(never_sent.empty()) << never_sent.size() << " pages were never sent";
  }
}

TEST_F(PlanTest, SyncWrapsAroundWhenNothingIsLeftAhead) {
  MakeSets({1000});
  Mark(0, 0, 100);
  EpochPlan plan(kSlotBytes, 1, kOneState);
  plan.PlanSync(*sets_, 1);
  EXPECT_EQ(plan.pages(), kSlotPages);
  sets_->RestoreInflight();
  for (int i = 0; i < 7; ++i) {
    plan.PlanSync(*sets_, 1);
    EXPECT_GT(plan.pages(), 0u);
    sets_->DropInflight();
  }
  EXPECT_EQ(sets_->CountPending(), 0u);
}

// Random dirty sets: exactly what is pending, once, ascending; the number of slots that is asked
// for is the smallest that is granted.
TEST_F(PlanTest, CheckpointCoversExactlyWhatIsPending) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    MakeSets({1 + random.Below(3000), 1 + random.Below(GuestMemory::kChunkPages + 300)});
    for (size_t domain = 0; domain < 2; ++domain) {
      const uint64_t pages = memories_[domain]->page_count();
      for (uint64_t runs = random.Below(60); runs > 0; --runs) {
        const Gfn first = random.Below(pages);
        Mark(domain, first, std::min<uint64_t>(1 + random.Below(40), pages - first));
      }
    }
    Mark(1, memories_[1]->page_count() - 1);
    const std::set<Page> dirty = PendingPages();
    const uint32_t state_max = static_cast<uint32_t>(1 + random.Below(200'000));
    const uint32_t states[] = {state_max, static_cast<uint32_t>(1 + random.Below(100))};
    const uint32_t slot_bytes = kMinSlotBytes << random.Below(7);
    EpochPlan plan(slot_bytes, 400, states);

    ASSERT_EQ(plan.PlanCheckpoint(*sets_, 0), EpochPlan::Outcome::kTooLarge);
    const uint64_t needed = plan.needed_slots();
    ASSERT_LE(needed, 400u);
    ASSERT_EQ(plan.PlanCheckpoint(*sets_, needed - 1), EpochPlan::Outcome::kTooLarge);
    ASSERT_EQ(PendingPages(), dirty);
    ASSERT_EQ(plan.PlanCheckpoint(*sets_, needed), EpochPlan::Outcome::kPlanned);
    ASSERT_EQ(plan.needed_slots(), needed);
    plan.AddStates(states);
    ASSERT_EQ(plan.slots().size(), needed);
    ASSERT_EQ(PlannedPages(plan), dirty);
    ASSERT_EQ(sets_->CountInflight(), dirty.size());
    ASSERT_EQ(sets_->CountPending(), 0u);
    // The fragments of each state follow one another without a gap.
    uint32_t done[] = {0, 0};
    for (const StateFragment& fragment : plan.fragments()) {
      ASSERT_EQ(fragment.offset, done[fragment.domain]);
      ASSERT_EQ(fragment.total, states[fragment.domain]);
      ASSERT_TRUE(fragment.domain == 1 || done[1] == 0);
      done[fragment.domain] += fragment.bytes;
    }
    ASSERT_EQ(done[0], states[0]);
    ASSERT_EQ(done[1], states[1]);
  }
}

// The worst case that the constructor allocates for: no two pages adjacent, every slot full.
TEST_F(PlanTest, WorstCaseOfEverySlotSizeFits) {
  for (uint32_t slot_bytes = kMinSlotBytes; slot_bytes <= kMaxSlotBytes; slot_bytes *= 2) {
    SCOPED_TRACE(slot_bytes);
    EpochPlan plan(slot_bytes, 2, kOneState);
    const uint64_t pages = 2 * uint64_t{plan.min_slot_pages()};
    MakeSets({2 * pages + 2});
    for (uint64_t i = 0; i <= pages; ++i) Mark(0, 2 * i);
    plan.PlanSync(*sets_, 2);
    EXPECT_EQ(plan.pages(), pages);
    EXPECT_EQ(PlannedPages(plan).size(), pages);
    EXPECT_EQ(sets_->CountPending(), 1u);
  }
}

TEST_F(PlanTest, PlanningWhileAnEpochIsInFlightIsOurError) {
  MakeSets({100});
  Mark(0, 1);
  EpochPlan plan(kSlotBytes, 2, kOneState);
  ASSERT_EQ(plan.PlanCheckpoint(*sets_, 2), EpochPlan::Outcome::kPlanned);
  EXPECT_DEATH(plan.PlanSync(*sets_, 2), "CountInflight");
}

}  // namespace
}  // namespace haven
