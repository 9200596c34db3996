// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/output_gate.h"

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Remembers what has left.
class ListSink final : public PacketSink {
 public:
  explicit ListSink(std::vector<SyntheticPacket>* left) : left_(left) {}
  size_t Send(std::span<const SyntheticPacket> packets) override {
    EXPECT_LE(packets.size(), kBatch);
    left_->insert(left_->end(), packets.begin(), packets.end());
    return 0;
  }

 private:
  std::vector<SyntheticPacket>* const left_;
};

class OutputGateTest : public ::testing::Test {
 protected:
  OutputGateTest() { Reset("synthetic:packet=100,gate=1000"); }

  void Reset(const char* spec) {
    left_.clear();
    gate_ = std::make_unique<OutputGate>(*ParseSyntheticSpec(spec),
                                         std::make_unique<ListSink>(&left_), 42);
  }

  // The commands by the letters of the table below.
  absl::Status Do(char command) {
    switch (command) {
      case 'H':
        return gate_->Hold();
      case 'B':
        return gate_->Barrier();
      case '1':
        return gate_->ReleaseOne();
      case 'O':
        return gate_->OpenAll();
      case 'R':
        return gate_->Rebuild();
      case 'D':
        return gate_->Discard();
      case 'M':
        return gate_->Remove();
      case 'L':
        gate_->Lose();
        return absl::OkStatus();
      default:
        gate_->Emit(0, 0);
        return absl::OkStatus();
    }
  }

  void DoAll(const std::string& commands) {
    for (const char command : commands) EXPECT_TRUE(Do(command).ok()) << command;
  }

  std::vector<uint64_t> Left() const {
    std::vector<uint64_t> numbers;
    for (const SyntheticPacket& packet : left_) numbers.push_back(packet.sequence);
    return numbers;
  }

  std::vector<SyntheticPacket> left_;
  std::unique_ptr<OutputGate> gate_;
};

TEST_F(OutputGateTest, EveryCommandInEveryMode) {
  // How a mode is reached, and for each command the mode it leads to; 0 if it is refused.
  struct Row {
    const char* reach;
    std::map<char, int> leads_to;
  };
  constexpr int kRefused = -1;
  constexpr int kAbsent = static_cast<int>(GateMode::kAbsent);
  constexpr int kHolding = static_cast<int>(GateMode::kHolding);
  constexpr int kOpen = static_cast<int>(GateMode::kOpen);
  constexpr int kDiscarded = static_cast<int>(GateMode::kDiscarded);
  const Row table[] = {
      {"",
       {{'H', kHolding},
        {'B', kRefused},
        {'1', kRefused},
        {'O', kAbsent},
        {'R', kHolding},
        {'D', kDiscarded},
        {'M', kAbsent},
        {'L', kAbsent}}},
      {"H",
       {{'H', kHolding},
        {'B', kHolding},
        {'1', kHolding},
        {'O', kOpen},
        {'R', kHolding},
        {'D', kDiscarded},
        {'M', kRefused},
        {'L', kAbsent}}},
      {"HO",
       {{'H', kHolding},
        {'B', kHolding},
        {'1', kOpen},
        {'O', kOpen},
        {'R', kHolding},
        {'D', kDiscarded},
        {'M', kAbsent},
        {'L', kAbsent}}},
      {"D",
       {{'H', kRefused},
        {'B', kRefused},
        {'1', kRefused},
        {'O', kRefused},
        {'R', kRefused},
        {'D', kDiscarded},
        {'M', kRefused},
        {'L', kDiscarded}}},
  };
  for (const Row& row : table) {
    for (const auto& [command, mode] : row.leads_to) {
      Reset("synthetic");
      DoAll(row.reach);
      const GateMode before = gate_->mode();
      const absl::Status status = Do(command);
      if (mode == kRefused) {
        EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << row.reach << command;
        EXPECT_EQ(gate_->mode(), before) << row.reach << command;
        EXPECT_THAT(std::string(status.message()), HasSubstr(GateModeName(before)));
      } else {
        EXPECT_TRUE(status.ok()) << row.reach << command << status;
        EXPECT_EQ(static_cast<int>(gate_->mode()), mode) << row.reach << command;
      }
    }
  }
}

TEST_F(OutputGateTest, PacketsLeaveByTheRules) {
  struct Case {
    const char* commands;
    std::vector<uint64_t> left;
  };
  const Case table[] = {
      {"++", {1, 2}},           // No buffer.
      {"+H+", {1}},             // Held from Hold on.
      {"H+H+B1", {1, 2}},       // A second Hold is no barrier.
      {"H++B+1", {1, 2}},       // The running epoch stays.
      {"H+O+", {1, 2}},         // Opened.
      {"H+O+H+", {1, 2}},       // Held again.
      {"HO+H+B1", {1, 2}},      // What passed is in no epoch.
      {"H+B+O", {1, 2}},        // Opening lets both epochs go.
      {"H+OM+", {1, 2}},        // Removed.
      {"H+OMH+B1", {1, 2}},     // A new buffer is empty.
      {"H+D+", {}},             // Discarded with what it held.
      {"H+B+R+", {1, 2}},       // Rebuilt: the old content leaves, the new is held.
      {"H+B+R+1", {1, 2}},      // And there is no finished epoch.
      {"H+B+R+B1", {1, 2, 3}},  //
      {"H+L+", {1, 2}},         // Lost.
      {"H+L+R+", {1, 2}},       //
      {"H+LH+", {1}},           // Held again after the loss.
  };
  for (const Case& one : table) {
    Reset("synthetic");
    DoAll(one.commands);
    EXPECT_EQ(Left(), one.left) << one.commands;
  }
}

TEST_F(OutputGateTest, PacketsCarryWhoSentThemAndWhen) {
  gate_->Continue(7, 100);
  ASSERT_TRUE(gate_->Hold().ok());
  gate_->Emit(3, 4567);
  EXPECT_EQ(gate_->next_sequence(), 101u);
  ASSERT_TRUE(gate_->OpenAll().ok());
  ASSERT_EQ(left_.size(), 1u);
  EXPECT_EQ(left_[0].sequence, 100u);
  EXPECT_EQ(left_[0].generation, 7u);
  EXPECT_EQ(left_[0].vcpu, 3u);
  EXPECT_EQ(left_[0].writes, 4567u);
  EXPECT_EQ(left_[0].pid, 42u);
  EXPECT_GT(left_[0].emitted_ns, 0);
  EXPECT_GE(left_[0].released_ns, left_[0].emitted_ns);
}

TEST_F(OutputGateTest, TheLimitDropsAndCounts) {
  ASSERT_TRUE(gate_->Hold().ok());
  for (int i = 0; i < 13; ++i) gate_->Emit(0, 0);
  OutputStats stats = gate_->stats();
  EXPECT_EQ(stats.held_packets, 10u);
  EXPECT_EQ(stats.held_bytes, 1000u);
  EXPECT_EQ(stats.dropped_packets, 3u);
  EXPECT_EQ(stats.released_packets, 0u);
  DoAll("B1");
  gate_->Emit(0, 0);
  DoAll("B1");
  EXPECT_THAT(Left(), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14));
  stats = gate_->stats();
  EXPECT_EQ(stats.held_packets, 0u);
  EXPECT_EQ(stats.released_packets, 11u);
}

TEST_F(OutputGateTest, DiscardedPacketsAreCounted) {
  DoAll("H++D+");
  EXPECT_THAT(Left(), IsEmpty());
  EXPECT_EQ(gate_->stats().dropped_packets, 3u);
  EXPECT_EQ(gate_->stats().held_packets, 0u);
}

TEST_F(OutputGateTest, AnEpochLargerThanABatchLeavesInOrder) {
  Reset("synthetic");
  DoAll("H");
  std::vector<uint64_t> expected;
  for (uint64_t i = 1; i <= 3 * PacketSink::kBatch + 5; ++i) {
    gate_->Emit(0, i);
    expected.push_back(i);
  }
  DoAll("B1");
  EXPECT_EQ(Left(), expected);
}

TEST_F(OutputGateTest, PacketsOfSeveralThreadsAreNumberedOnceAndLeaveInThatOrder) {
  Reset("synthetic");
  std::vector<std::thread> vcpus;
  for (uint32_t vcpu = 0; vcpu < 4; ++vcpu) {
    vcpus.emplace_back([this, vcpu] {
      for (uint64_t i = 0; i < 1000; ++i) gate_->Emit(vcpu, i);
    });
  }
  DoAll("HB1B1ORB1O");
  for (std::thread& vcpu : vcpus) vcpu.join();
  ASSERT_EQ(left_.size(), 4000u);
  for (size_t i = 0; i < left_.size(); ++i) EXPECT_EQ(left_[i].sequence, i + 1);
}

}  // namespace
}  // namespace haven
