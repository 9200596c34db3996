// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/switch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace haven {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr uint8_t kBroadcast = 0xff;

// A frame between stations that are told apart by one byte of their addresses.
Frame FrameOf(uint8_t destination, uint8_t source, size_t bytes = 60) {
  Frame frame(bytes);
  frame[0] = std::byte{0x52};
  frame[5] = std::byte{destination};
  if (destination == kBroadcast) std::fill_n(frame.begin(), 6, std::byte{0xff});
  frame[6] = std::byte{0x52};
  frame[11] = std::byte{source};
  return frame;
}

class SwitchTest : public testing::Test {
 protected:
  SwitchTest()
      : switch_(1, [this](size_t port, std::span<const std::byte> frame) {
          heard_.push_back(port);
          frames_.emplace_back(frame.begin(), frame.end());
        }) {
    for (const char* name : {"a.lan", "b.lan", "c.lan"}) {
      EXPECT_TRUE(switch_.AddPort(name, "lan").ok());
    }
    EXPECT_EQ(switch_.AddPort("a.rail0", "rail0").value(), 3u);
  }

  std::vector<size_t> Heard() { return std::exchange(heard_, {}); }

  std::vector<size_t> heard_;
  std::vector<Frame> frames_;
  Switch switch_;
};

TEST_F(SwitchTest, BroadcastGoesToTheOthersOfTheNetworkOnly) {
  switch_.Receive(0, FrameOf(kBroadcast, 1), 0);
  EXPECT_THAT(Heard(), UnorderedElementsAre(1, 2));
  switch_.Receive(3, FrameOf(kBroadcast, 4), 0);
  EXPECT_THAT(Heard(), IsEmpty());
}

TEST_F(SwitchTest, UnknownStationsAreSearchedEverywhereAndKnownOnesAreNot) {
  switch_.Receive(0, FrameOf(2, 1), 0);
  EXPECT_THAT(Heard(), UnorderedElementsAre(1, 2));
  switch_.Receive(1, FrameOf(1, 2), 0);
  EXPECT_THAT(Heard(), ElementsAre(0));
  switch_.Receive(0, FrameOf(2, 1), 0);
  EXPECT_THAT(Heard(), ElementsAre(1));
}

TEST_F(SwitchTest, AStationThatIsHeardElsewhereHasMoved) {
  switch_.Receive(0, FrameOf(kBroadcast, 9), 0);
  Heard();
  switch_.Receive(1, FrameOf(kBroadcast, 9), 0);
  Heard();
  switch_.Receive(2, FrameOf(9, 3), 0);
  EXPECT_THAT(Heard(), ElementsAre(1));
}

TEST_F(SwitchTest, AFrameForTheSenderOrTooShortGoesNowhere) {
  switch_.Receive(0, FrameOf(kBroadcast, 1), 0);
  Heard();
  switch_.Receive(0, FrameOf(1, 1), 0);
  switch_.Receive(0, Frame(13), 0);
  switch_.Receive(0, Frame(), 0);
  EXPECT_THAT(Heard(), IsEmpty());
}

TEST_F(SwitchTest, RulesHoldForOneDirectionOfTheMatchingLinks) {
  EXPECT_EQ(switch_.SetRule("a.*", "b.*", {.cut = true}).value(), 1u);
  switch_.Receive(0, FrameOf(kBroadcast, 1), 0);
  EXPECT_THAT(Heard(), ElementsAre(2));
  switch_.Receive(1, FrameOf(kBroadcast, 2), 0);
  EXPECT_THAT(Heard(), UnorderedElementsAre(0, 2));
  switch_.ClearRules();
  switch_.Receive(0, FrameOf(kBroadcast, 1), 0);
  EXPECT_THAT(Heard(), UnorderedElementsAre(1, 2));
}

TEST_F(SwitchTest, DelayedFramesArriveInOrderWhenTheyAreDue) {
  ASSERT_TRUE(switch_.SetRule("a.lan", "b.lan", {.delay_us = 1'000}).ok());
  ASSERT_TRUE(switch_.SetRule("a.lan", "c.lan", {.cut = true}).ok());
  EXPECT_FALSE(switch_.NextDueNs().has_value());
  for (const size_t bytes : {60u, 61u, 62u}) switch_.Receive(0, FrameOf(kBroadcast, 1, bytes), 0);
  EXPECT_THAT(Heard(), IsEmpty());
  EXPECT_EQ(switch_.NextDueNs().value(), 1'000'000);
  switch_.DeliverDue(999'999);
  EXPECT_THAT(Heard(), IsEmpty());
  switch_.DeliverDue(1'000'000);
  EXPECT_THAT(Heard(), ElementsAre(1, 1, 1));
  EXPECT_EQ(frames_[0].size(), 60u);
  EXPECT_EQ(frames_[2].size(), 62u);
  EXPECT_FALSE(switch_.NextDueNs().has_value());
}

TEST_F(SwitchTest, CorruptionFlipsOneBitBehindTheHeader) {
  ASSERT_TRUE(switch_.SetRule("*", "*", {.corrupt = 1}).ok());
  const Frame sent = FrameOf(kBroadcast, 1, 200);
  switch_.Receive(0, sent, 0);
  ASSERT_EQ(frames_.size(), 2u);
  for (const Frame& heard : frames_) {
    int flipped = 0;
    for (size_t i = 0; i < sent.size(); ++i) {
      const int bits = std::popcount(std::to_integer<unsigned>(sent[i] ^ heard[i]));
      EXPECT_TRUE(i >= 14 || bits == 0) << i;
      flipped += bits;
    }
    EXPECT_EQ(flipped, 1);
  }
}

TEST_F(SwitchTest, DuplicatesArriveTwice) {
  ASSERT_TRUE(switch_.SetRule("a.lan", "b.lan", {.duplicate = 1}).ok());
  switch_.Receive(0, FrameOf(kBroadcast, 1), 0);
  EXPECT_THAT(Heard(), UnorderedElementsAre(1, 1, 2));
}

TEST_F(SwitchTest, RulesThatMakeNoSenseAreRefusedByName) {
  const std::vector<std::pair<LinkRule, std::string>> refused = {
      {{.loss = 1.1}, "loss"},
      {{.loss = -0.1}, "loss"},
      {{.corrupt = 2}, "corrupt"},
      {{.duplicate = -1}, "duplicate"},
      {{.reorder = 0.5}, "reorder_us"},
      {{.delay_us = -1}, "delay_us"},
      {{.jitter_us = 60'000'001}, "jitter_us"},
      {{.rate_kbps = -5}, "rate_kbps"},
      {{.queue_bytes = -1}, "queue_bytes"},
  };
  for (const auto& [rule, name] : refused) {
    const absl::Status status = switch_.SetRule("a.lan", "b.lan", rule).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST_F(SwitchTest, PortsThatAreNotThereAreNotFound) {
  EXPECT_TRUE(absl::IsNotFound(switch_.SetRule("x.lan", "b.lan", {}).status()));
  // Different networks: no link.
  EXPECT_TRUE(absl::IsNotFound(switch_.SetRule("a.lan", "a.rail0", {}).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(switch_.AddPort("a.lan", "rail0").status()));
}

TEST_F(SwitchTest, SourcesAreCountedWhereTheyComeInWhateverBecomesOfTheirFrames) {
  EXPECT_THAT(switch_.Sources(), IsEmpty());
  ASSERT_TRUE(switch_.SetRule("a.lan", "*", {.cut = true}).ok());
  switch_.Receive(0, FrameOf(kBroadcast, 9), 10);
  switch_.Receive(0, FrameOf(2, 9), 20);
  Frame announcement = FrameOf(kBroadcast, 9);
  announcement[12] = std::byte{0x80};
  announcement[13] = std::byte{0x35};
  switch_.Receive(1, announcement, 30);
  const std::vector<Switch::SourceStats> sources = switch_.Sources();
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_EQ(sources[0].port, "a.lan");
  EXPECT_EQ(sources[0].address, "52:00:00:00:00:09");
  EXPECT_EQ(sources[0].frames, 2);
  EXPECT_EQ(sources[0].reverse_arps, 0);
  EXPECT_EQ(sources[0].last_ns, 20);
  EXPECT_EQ(sources[1].port, "b.lan");
  EXPECT_EQ(sources[1].frames, 1);
  EXPECT_EQ(sources[1].reverse_arps, 1);
  EXPECT_EQ(sources[1].last_ns, 30);
}

TEST_F(SwitchTest, AHostThatChangesItsAddressWithoutEndIsNotCountedWithoutEnd) {
  Frame frame = FrameOf(kBroadcast, 0);
  for (int i = 0; i < 5000; ++i) {
    frame[10] = static_cast<std::byte>(i >> 8);
    frame[11] = static_cast<std::byte>(i & 0xff);
    switch_.Receive(0, frame, 0);
  }
  EXPECT_EQ(switch_.Sources().size(), 4096u);
}

TEST_F(SwitchTest, MemoryForFramesUnderWayIsLimited) {
  ASSERT_TRUE(switch_.SetRule("a.lan", "b.lan", {.delay_us = 60'000'000}).ok());
  const Frame large = FrameOf(kBroadcast, 1, 64 * 1024);
  for (size_t sent = 0; sent <= Switch::kBytesUnderWayMax; sent += large.size()) {
    switch_.Receive(0, large, 0);
    heard_.clear();
    frames_.clear();
  }
  EXPECT_EQ(switch_.frames_over_limit(), 1);
}

}  // namespace
}  // namespace haven
