// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/workload.h"

#include <cstring>
#include <set>
#include <vector>

#include "engine/base/byte_order.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

SyntheticSpec SpecOf(const char* text) { return *ParseSyntheticSpec(text); }

struct World {
  explicit World(const char* text)
      : spec(SpecOf(text)),
        layout(spec),
        bytes(layout.bytes()),
        memory(layout.View(bytes.data())) {}

  SyntheticSpec spec;
  SyntheticLayout layout;
  std::vector<std::byte> bytes;
  GuestMemory memory;
};

TEST(VcpuWorkloadTest, TheSameCountersGiveTheSameMemory) {
  World one("synthetic:mem=1M,block=256,vcpus=2,fill=0.3");
  World two("synthetic:mem=1M,block=256,vcpus=2,fill=0.3");
  for (World* world : {&one, &two}) {
    // The vCPUs interleave differently in the two; that must not show.
    VcpuState states[2];
    for (int i = 0; i < 6000; ++i) {
      const uint32_t vcpu = world == &one ? static_cast<uint32_t>(i % 2) : i < 3000 ? 0u : 1u;
      VcpuWorkload(world->spec, world->layout, vcpu).Write(world->memory, states[vcpu]);
    }
    EXPECT_EQ(states[0].writes, 3000u);
    EXPECT_EQ(states[1].writes, 3000u);
  }
  EXPECT_EQ(one.bytes, two.bytes);
}

TEST(VcpuWorkloadTest, FillingWritesGoThroughTheirShareInOrder) {
  World world("synthetic:mem=1M,block=1K,vcpus=2,fill=0.5");
  const VcpuWorkload workload(world.spec, world.layout, 1);
  EXPECT_EQ(workload.fill_writes(), 64u * 4);
  std::set<std::pair<Gfn, uint32_t>> places;
  for (uint64_t number = 1; number <= workload.fill_writes(); ++number) {
    const BlockPlace place = workload.Place(number);
    EXPECT_EQ(place.gfn, world.layout.RamFrame(128 + (number - 1) / 4));
    places.insert({place.gfn, place.offset_bytes});
  }
  EXPECT_EQ(places.size(), workload.fill_writes());
}

TEST(VcpuWorkloadTest, LocalityAndHotSetAreKept) {
  World world("synthetic:mem=16M,vcpus=4,fill=0,locality=0.75,hot=0.1");
  const VcpuWorkload workload(world.spec, world.layout, 2);
  const RamRange range = world.layout.Partition(2);
  const uint64_t hot_pages = range.pages / 10;
  int hot = 0;
  std::set<Gfn> pages;
  constexpr int kWrites = 100'000;
  for (uint64_t number = 1; number <= kWrites; ++number) {
    const Gfn gfn = workload.Place(number).gfn;
    ASSERT_GE(gfn, world.layout.RamFrame(range.first));
    ASSERT_LE(gfn, world.layout.RamFrame(range.first + range.pages - 1));
    if (gfn < world.layout.RamFrame(range.first + hot_pages)) ++hot;
    pages.insert(gfn);
  }
  EXPECT_NEAR(hot, 0.75 * kWrites, 0.01 * kWrites);
  EXPECT_EQ(pages.size(), range.pages) << "every page is reached";
}

TEST(VcpuWorkloadTest, ExtremeSharesStayInsideThePartition) {
  for (const char* text :
       {"synthetic:mem=1M,hot=0,locality=1,fill=0", "synthetic:mem=1M,hot=1,locality=0,fill=1",
        "synthetic:mem=1M,hot=1,locality=1,fill=0", "synthetic:mem=1M,hot=0,locality=0,fill=0"}) {
    World world(text);
    const VcpuWorkload workload(world.spec, world.layout, 0);
    VcpuState state;
    for (int i = 0; i < 2000; ++i) {
      ASSERT_TRUE(world.memory.IsRam(workload.Write(world.memory, state))) << text;
    }
  }
}

TEST(VcpuWorkloadTest, AWriteChangesOneBlockAndTheChecksumIsTheSumOfTheTags) {
  for (const char* text : {"synthetic:mem=1M,block=64,fill=0.2", "synthetic:mem=1M,fill=0.2"}) {
    World world(text);
    const VcpuWorkload workload(world.spec, world.layout, 0);
    VcpuState state;
    for (int i = 0; i < 3000; ++i) {
      const bool compare = i % 500 == 0;
      const std::vector<std::byte> before = compare ? world.bytes : std::vector<std::byte>();
      const Gfn gfn = workload.Write(world.memory, state);
      const BlockPlace place = workload.Place(state.writes);
      EXPECT_EQ(place.gfn, gfn);
      if (!compare) continue;
      const size_t at = gfn * kPageBytes + place.offset_bytes;
      const size_t end = at + world.spec.block_bytes;
      EXPECT_EQ(std::memcmp(before.data(), world.bytes.data(), at), 0);
      EXPECT_EQ(
          std::memcmp(before.data() + end, world.bytes.data() + end, world.bytes.size() - end), 0);
      EXPECT_EQ(LoadLe64(world.bytes.data() + at), state.writes);
    }
    uint64_t sum = 0;
    for (size_t at = 0; at < world.bytes.size(); at += world.spec.block_bytes) {
      sum += LoadLe64(world.bytes.data() + at + 8);
    }
    EXPECT_EQ(sum, state.checksum);
  }
}

}  // namespace
}  // namespace haven
