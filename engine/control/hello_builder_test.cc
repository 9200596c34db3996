// SPDX-License-Identifier: Apache-2.0
#include "engine/control/hello_builder.h"

#include <functional>
#include <utility>

#include "engine/control/control_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;

// RAM where `is_ram` says so; nothing is mapped, for nobody looks.
GuestMemory Memory(uint64_t pages, const std::function<bool(Gfn)>& is_ram) {
  std::vector<uint64_t> ram(static_cast<size_t>((pages + 63) / 64), 0);
  for (Gfn gfn = 0; gfn < pages; ++gfn) {
    if (is_ram(gfn)) ram[gfn / 64] |= uint64_t{1} << (gfn % 64);
  }
  return GuestMemory({}, std::move(ram), pages);
}

TEST(RamRunsTest, AreMaximalAscendingAndComplete) {
  const auto runs = [](uint64_t pages, const std::function<bool(Gfn)>& is_ram) {
    return *RamRuns(Memory(pages, is_ram));
  };
  EXPECT_EQ(runs(200, [](Gfn) { return true; }), (std::vector<RamRun>{{0, 200}}));
  EXPECT_EQ(runs(200, [](Gfn) { return false; }), (std::vector<RamRun>{}));
  EXPECT_EQ(runs(64, [](Gfn) { return true; }), (std::vector<RamRun>{{0, 64}}));
  EXPECT_EQ(runs(1, [](Gfn) { return true; }), (std::vector<RamRun>{{0, 1}}));
  EXPECT_EQ(runs(300, [](Gfn gfn) { return gfn < 63 || gfn > 64; }),
            (std::vector<RamRun>{{0, 63}, {65, 235}}));
  EXPECT_EQ(runs(1000, [](Gfn gfn) { return gfn >= 128 && gfn < 512; }),
            (std::vector<RamRun>{{128, 384}}));
  EXPECT_EQ(runs(10, [](Gfn gfn) { return gfn % 5 == 4; }), (std::vector<RamRun>{{4, 1}, {9, 1}}));
}

TEST(RamRunsTest, BitsBeyondTheLastFrameMeanNothing) {
  EXPECT_EQ(*RamRuns(GuestMemory({}, {~uint64_t{0}, ~uint64_t{0}}, 70)),
            (std::vector<RamRun>{{0, 70}}));
}

TEST(RamRunsTest, TooManyPiecesAreRefused) {
  const auto every_other = [](Gfn gfn) { return gfn % 2 == 0; };
  EXPECT_EQ(RamRuns(Memory(2 * kMaxRamRuns, every_other))->size(), kMaxRamRuns);
  EXPECT_TRUE(
      absl::IsResourceExhausted(RamRuns(Memory(2 * kMaxRamRuns + 1, every_other)).status()));
}

class HelloBuilderTest : public testing::Test {
 protected:
  HelloBuilderTest() {
    parameters_.node_id = "host-a";
    parameters_.group = "web";
    parameters_.slot_bytes = kMinSlotBytes;
    parameters_.staging_bytes = 10 * kMinSlotBytes + 5;
    parameters_.detect_ns = 100'000'000;
    parameters_.interval_ns = 50'000'000;
  }
  absl::StatusOr<Hello> Build() {
    Domain* const domains[] = {&first_, &second_};
    return BuildHello(parameters_, domains);
  }
  std::string Complaint() {
    const absl::Status status = Build().status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  }

  TestWire wire_;
  TestGuest first_{"g1", 100, wire_};
  TestGuest second_{"g2", 64, wire_};
  HelloParameters parameters_;
};

TEST_F(HelloBuilderTest, DescribesTheGuestsInTheirOrder) {
  const absl::StatusOr<Hello> hello = Build();
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(hello->session, kNoSession);
  EXPECT_EQ(hello->max_epoch_slots, 10u);
  EXPECT_EQ(hello->detect_ns, 100'000'000u);
  ASSERT_EQ(hello->domains.size(), 2u);
  EXPECT_EQ(hello->domains[0].name, "g1");
  EXPECT_EQ(hello->domains[0].page_count, 100u);
  EXPECT_EQ(hello->domains[0].ram, (std::vector<RamRun>{{0, 100}}));
  EXPECT_EQ(hello->domains[1].uuid, second_.info().uuid);
  EXPECT_EQ(hello->domains[1].max_state_bytes, second_.max_state_bytes());
}

TEST_F(HelloBuilderTest, WhatTheMessageCanNotSayIsRefusedBeforehand) {
  const HelloParameters good = parameters_;
  parameters_.group = "no spaces please";
  EXPECT_THAT(Complaint(), HasSubstr("group"));
  parameters_ = good;
  parameters_.node_id = "";
  EXPECT_THAT(Complaint(), HasSubstr("node_id"));
  parameters_ = good;
  parameters_.detect_ns = 0;
  EXPECT_THAT(Complaint(), HasSubstr("detect_ns"));
  parameters_ = good;
  parameters_.interval_ns = -5;
  EXPECT_TRUE(Build().ok());
  parameters_.slot_bytes = kMinSlotBytes + 1;
  EXPECT_THAT(Complaint(), HasSubstr("slot_bytes"));
  parameters_ = good;
  parameters_.slot_bytes = 0;
  EXPECT_THAT(Complaint(), HasSubstr("holds no slot"));
  parameters_ = good;
  parameters_.staging_bytes = kMinSlotBytes - 1;
  EXPECT_THAT(Complaint(), HasSubstr("holds no slot"));
}

TEST_F(HelloBuilderTest, TheSameGuestTwiceIsRefused) {
  Domain* const domains[] = {&first_, &first_};
  EXPECT_TRUE(absl::IsInvalidArgument(BuildHello(parameters_, domains).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(BuildHello(parameters_, {}).status()));
}

}  // namespace
}  // namespace haven
