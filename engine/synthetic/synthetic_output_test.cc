// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/synthetic_output.h"

#include <array>
#include <string>
#include <vector>

#include "engine/synthetic/attached_guest_test.h"
#include "engine/synthetic/packet_log.h"
#include "engine/synthetic/state.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;
using SyntheticOutputTest = AttachedGuestTest;

TEST_F(SyntheticOutputTest, OutputOfAnEpochLeavesWhenItIsReleased) {
  const std::string log = PathOf("log");
  Start("synthetic:mem=1M,dirty=1000,output=2000,vcpus=2,log=" + log);
  Attach();
  ASSERT_TRUE(output_->Hold().ok());
  uint64_t released_before = ReadPacketLog(log)->size();
  for (int epoch = 0; epoch < 10; ++epoch) {
    ASSERT_TRUE(Eventually([&] { return output_->stats().held_packets >= 10; }));
    SuspendGuest();
    ASSERT_TRUE(output_->Barrier().ok());
    std::array<std::byte, kSyntheticMaxStateBytes> room;
    const SyntheticState state =
        *DecodeSyntheticState(spec_, std::span(room).first(*domain_->CaptureState(room)));
    ASSERT_TRUE(suspend_->Resume().ok());
    ASSERT_TRUE(Eventually([&] { return Query().next_sequence > state.next_sequence; }));
    EXPECT_EQ(ReadPacketLog(log)->size(), released_before) << "not before the release";
    ASSERT_TRUE(output_->ReleaseOne().ok());
    const std::vector<SyntheticPacket> packets = *ReadPacketLog(log);
    ASSERT_EQ(packets.size(), state.next_sequence - 1) << "all of the epoch and nothing beyond";
    for (size_t i = 0; i < packets.size(); ++i) {
      EXPECT_EQ(packets[i].sequence, i + 1);
      EXPECT_LE(packets[i].writes, state.vcpus[packets[i].vcpu].writes);
    }
    released_before = packets.size();
  }
  EXPECT_EQ(output_->stats().released_packets, released_before);
  EXPECT_EQ(output_->stats().dropped_packets, 0u);
}

TEST_F(SyntheticOutputTest, ABufferRemovedBySomebodyElseIsNoticedUntilItIsRebuilt) {
  Start("synthetic:mem=1M,output=1000");
  Attach();
  EXPECT_TRUE(output_->Health().ok());
  ASSERT_TRUE(output_->Hold().ok());
  EXPECT_TRUE(output_->Health().ok());
  ASSERT_TRUE(InjectSyntheticFault(dir_, spec_.name, SyntheticFault::kLoseOutputBuffer).ok());
  EXPECT_EQ(output_->Health().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(output_->Barrier().code(), absl::StatusCode::kFailedPrecondition);
  // Also an engine that was not there when it happened learns of it.
  Detach();
  Attach();
  EXPECT_THAT(std::string(output_->Health().message()), HasSubstr("ms ago"));
  ASSERT_TRUE(output_->Hold().ok());
  EXPECT_FALSE(output_->Health().ok());
  ASSERT_TRUE(output_->Rebuild().ok());
  EXPECT_TRUE(output_->Health().ok());
  EXPECT_EQ(Query().gate, GateMode::kHolding);
}

TEST_F(SyntheticOutputTest, AGroupOfGuestsActsTogether) {
  Start("synthetic:mem=1M,name=a,output=1000");
  const SyntheticSpec other = *ParseSyntheticSpec("synthetic:mem=1M,name=b,output=1000");
  ASSERT_TRUE(StartSyntheticGuest(Launch(), other).ok());
  Attach();
  const auto second = SyntheticConnection::Attach(dir_, "b");
  ASSERT_TRUE(second.ok()) << second.status();
  SyntheticOutput group({connection_, *second});
  ASSERT_TRUE(group.Hold().ok());
  for (const char* name : {"a", "b"}) {
    EXPECT_EQ(QuerySyntheticGuest(dir_, name)->gate, GateMode::kHolding);
    EXPECT_TRUE(Eventually([&] { return QuerySyntheticGuest(dir_, name)->held_packets > 0; }));
  }
  EXPECT_GE(group.stats().held_packets, 2u);
  // One of them failing fails the call, but not the other's part.
  ASSERT_TRUE(InjectSyntheticFault(dir_, "b", SyntheticFault::kLoseOutputBuffer).ok());
  EXPECT_FALSE(group.Barrier().ok());
  EXPECT_THAT(std::string(group.Health().message()), HasSubstr("guest b"));
  ASSERT_TRUE(group.ReleaseOne().code() == absl::StatusCode::kFailedPrecondition);
  EXPECT_GT(QuerySyntheticGuest(dir_, "a")->released_packets, 0u);
  ASSERT_TRUE((*second)->Kill().ok());
  EXPECT_TRUE(group.Discard().code() == absl::StatusCode::kOk);
}

}  // namespace
}  // namespace haven
