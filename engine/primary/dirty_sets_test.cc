// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/dirty_sets.h"

#include <set>
#include <vector>

#include "engine/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// Memory that nobody touches: only its bitmap matters here.
GuestMemory Unmapped(uint64_t pages, std::vector<uint64_t> ram) {
  const uint64_t chunks = (pages + GuestMemory::kChunkPages - 1) / GuestMemory::kChunkPages;
  return GuestMemory(std::vector<std::byte*>(static_cast<size_t>(chunks)), std::move(ram), pages);
}

GuestMemory AllRam(uint64_t pages) {
  return Unmapped(pages,
                  std::vector<uint64_t>(static_cast<size_t>((pages + 63) / 64), ~uint64_t{0}));
}

void Mark(DirtySets& sets, size_t domain, Gfn gfn) {
  sets.Pending(domain)[gfn / 64] |= uint64_t{1} << (gfn % 64);
}

std::vector<std::pair<Gfn, uint32_t>> RunsFrom(const DirtySets& sets, size_t domain, Gfn from) {
  std::vector<std::pair<Gfn, uint32_t>> found;
  DirtySets::Runs runs(sets, domain, from);
  FrameRun run;
  while (runs.Next(&run)) found.emplace_back(run.first, run.pages);
  return found;
}

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(DirtySetsTest, StartsEmpty) {
  const GuestMemory memory = AllRam(1000);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  EXPECT_EQ(sets.CountPending(), 0u);
  EXPECT_EQ(sets.CountInflight(), 0u);
  EXPECT_THAT(RunsFrom(sets, 0, 0), IsEmpty());
}

TEST(DirtySetsTest, MarkAllMarksRamOnly) {
  const GuestMemory memory = Unmapped(130, {~uint64_t{0xf0}, ~uint64_t{0}, ~uint64_t{0}});
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  sets.MarkAll();
  EXPECT_EQ(sets.CountPending(), 126u);
  EXPECT_THAT(RunsFrom(sets, 0, 0), ElementsAre(Pair(0, 4), Pair(8, 122)));
}

TEST(DirtySetsTest, DirtyLogOfFramesThatAreNotRamIsIgnored) {
  const GuestMemory memory = Unmapped(70, {0x1, ~uint64_t{0}});
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  for (uint64_t& word : sets.Pending(0)) word = ~uint64_t{0};
  EXPECT_EQ(sets.CountPending(), 7u);
  EXPECT_THAT(RunsFrom(sets, 0, 0), ElementsAre(Pair(0, 1), Pair(64, 6)));
}

TEST(DirtySetsTest, RunsEndAtChunksOfGuestMemory) {
  const GuestMemory memory = AllRam(2 * GuestMemory::kChunkPages + 5);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  sets.MarkAll();
  const uint32_t chunk = GuestMemory::kChunkPages;
  EXPECT_THAT(RunsFrom(sets, 0, 0),
              ElementsAre(Pair(0, chunk), Pair(chunk, chunk), Pair(2 * chunk, 5)));
  EXPECT_THAT(RunsFrom(sets, 0, chunk - 1),
              ElementsAre(Pair(chunk - 1, 1), Pair(chunk, chunk), Pair(2 * chunk, 5)));
}

TEST(DirtySetsTest, RunsFromTheMiddle) {
  const GuestMemory memory = AllRam(300);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  for (const Gfn gfn : {0u, 62u, 63u, 64u, 65u, 127u, 128u, 299u}) Mark(sets, 0, gfn);
  EXPECT_THAT(RunsFrom(sets, 0, 0),
              ElementsAre(Pair(0, 1), Pair(62, 4), Pair(127, 2), Pair(299, 1)));
  EXPECT_THAT(RunsFrom(sets, 0, 63), ElementsAre(Pair(63, 3), Pair(127, 2), Pair(299, 1)));
  EXPECT_THAT(RunsFrom(sets, 0, 64), ElementsAre(Pair(64, 2), Pair(127, 2), Pair(299, 1)));
  EXPECT_THAT(RunsFrom(sets, 0, 299), ElementsAre(Pair(299, 1)));
  EXPECT_THAT(RunsFrom(sets, 0, 300), IsEmpty());
  EXPECT_THAT(RunsFrom(sets, 0, UINT64_MAX), IsEmpty());
}

TEST(DirtySetsTest, TakenPageIsDroppedOnAcknowledgement) {
  const GuestMemory memory = AllRam(300);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  for (const Gfn gfn : {63u, 64u, 70u}) Mark(sets, 0, gfn);
  sets.Take(0, {.first = 63, .pages = 2});
  EXPECT_EQ(sets.CountInflight(), 2u);
  EXPECT_EQ(sets.CountPending(), 1u);
  sets.DropInflight();
  EXPECT_EQ(sets.CountInflight(), 0u);
  EXPECT_THAT(RunsFrom(sets, 0, 0), ElementsAre(Pair(70, 1)));
}

TEST(DirtySetsTest, TakenPageComesBackOnFailure) {
  const GuestMemory memory = AllRam(300);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  for (const Gfn gfn : {63u, 64u, 70u}) Mark(sets, 0, gfn);
  sets.Take(0, {.first = 63, .pages = 2});
  Mark(sets, 0, 63);
  Mark(sets, 0, 200);
  sets.RestoreInflight();
  EXPECT_EQ(sets.CountInflight(), 0u);
  EXPECT_THAT(RunsFrom(sets, 0, 0), ElementsAre(Pair(63, 2), Pair(70, 1), Pair(200, 1)));
}

TEST(DirtySetsTest, PageDirtiedAgainInFlightSurvivesTheAcknowledgement) {
  const GuestMemory memory = AllRam(64);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  Mark(sets, 0, 5);
  sets.Take(0, {.first = 5, .pages = 1});
  Mark(sets, 0, 5);
  sets.DropInflight();
  EXPECT_THAT(RunsFrom(sets, 0, 0), ElementsAre(Pair(5, 1)));
}

TEST(DirtySetsTest, MarkAllKeepsWhatIsInFlight) {
  const GuestMemory memory = AllRam(64);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  Mark(sets, 0, 5);
  sets.Take(0, {.first = 5, .pages = 1});
  sets.MarkAll(0);
  EXPECT_EQ(sets.CountInflight(), 1u);
  EXPECT_EQ(sets.CountPending(), 64u);
}

TEST(DirtySetsDeathTest, TakingAPageThatIsNotPendingIsOurError) {
  const GuestMemory memory = AllRam(64);
  const GuestMemory* const memories[] = {&memory};
  DirtySets sets(memories);
  Mark(sets, 0, 5);
  EXPECT_DEATH(sets.Take(0, {.first = 5, .pages = 2}), "gfn=5");
}

// Against sets of frame numbers, with all operations in random order on two domains.
TEST(DirtySetsTest, AgreesWithANaiveModel) {
  using Page = std::pair<size_t, Gfn>;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::vector<GuestMemory> memories;
    for (int i = 0; i < 2; ++i) {
      const uint64_t pages = 1 + random.Below(2 * GuestMemory::kChunkPages);
      std::vector<uint64_t> ram(static_cast<size_t>((pages + 63) / 64));
      for (uint64_t& word : ram) word = random.Next() | random.Next();
      memories.push_back(Unmapped(pages, ram));
    }
    const GuestMemory* const pointers[] = {&memories[0], &memories[1]};
    DirtySets sets(pointers);
    std::set<Page> pending;
    std::set<Page> inflight;
    for (int step = 0; step < 40; ++step) {
      const size_t domain = static_cast<size_t>(random.Below(2));
      const uint64_t choice = random.Below(8);
      if (choice < 3) {
        Gfn gfn = random.Below(memories[domain].page_count());
        for (uint64_t left = random.Below(200); left > 0 && gfn < memories[domain].page_count();
             --left) {
          Mark(sets, domain, gfn);
          if (memories[domain].IsRam(gfn)) pending.emplace(domain, gfn);
          gfn += 1 + random.Below(3);
        }
      } else if (choice < 6) {
        DirtySets::Runs runs(sets, domain, random.Below(memories[domain].page_count()));
        FrameRun run;
        while (random.Chance(9, 10) && runs.Next(&run)) {
          run.pages = static_cast<uint32_t>(1 + random.Below(run.pages));
          sets.Take(domain, run);
          for (Gfn gfn = run.first; gfn < run.first + run.pages; ++gfn) {
            ASSERT_EQ(pending.erase({domain, gfn}), 1u) << gfn;
            inflight.emplace(domain, gfn);
          }
        }
      } else if (choice == 6) {
        sets.DropInflight();
        inflight.clear();
      } else {
        sets.RestoreInflight();
        pending.merge(inflight);
        inflight.clear();
      }
      ASSERT_EQ(sets.CountPending(), pending.size());
      ASSERT_EQ(sets.CountInflight(), inflight.size());
      std::set<Page> walked;
      for (size_t d = 0; d < 2; ++d) {
        for (const auto& [first, pages] : RunsFrom(sets, d, 0)) {
          for (Gfn gfn = first; gfn < first + pages; ++gfn) {
            ASSERT_TRUE(walked.emplace(d, gfn).second) << gfn;
          }
        }
      }
      ASSERT_EQ(walked, pending);
    }
  }
}

}  // namespace
}  // namespace haven
