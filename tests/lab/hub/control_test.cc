// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace haven {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Frame Broadcast() {
  Frame frame(60);
  std::fill_n(frame.begin(), 6, std::byte{0xff});
  return frame;
}

class ControlTest : public testing::Test {
 protected:
  ControlTest() : switch_(1, [this](size_t, std::span<const std::byte>) { ++heard_; }) {
    EXPECT_TRUE(switch_.AddPort("a.lan", "lan").ok());
    EXPECT_TRUE(switch_.AddPort("b.lan", "lan").ok());
  }

  Json Say(const std::string& line) { return Json::parse(HandleCommand(line, switch_)); }

  int heard_ = 0;
  Switch switch_;
};

TEST_F(ControlTest, ARuleIsSetAndCleared) {
  EXPECT_EQ(Say(R"({"op": "link", "from": "a.*", "to": "*", "rule": {"cut": true}})"),
            Json({{"links", 1}}));
  const Frame frame = Broadcast();
  switch_.Receive(0, frame, 0);
  EXPECT_EQ(heard_, 0);
  EXPECT_EQ(Say(R"({"op": "clear"})"), Json::object());
  switch_.Receive(0, frame, 0);
  EXPECT_EQ(heard_, 1);
}

TEST_F(ControlTest, EveryMemberOfARuleIsKnown) {
  EXPECT_EQ(Say(R"({"op": "link", "from": "a.lan", "to": "b.lan", "rule": {
                    "cut": false, "loss": 0.1, "corrupt": 0.1, "duplicate": 0, "reorder": 1,
                    "reorder_us": 5, "delay_us": 1, "jitter_us": 2, "rate_kbps": 1000,
                    "queue_bytes": 5000}})"),
            Json({{"links", 1}}));
}

TEST_F(ControlTest, StatsCountPerDirection) {
  const Frame frame = Broadcast();
  switch_.Receive(0, frame, 0);
  const Json stats = Say(R"({"op": "stats"})");
  EXPECT_EQ(stats["frames_over_limit"], 0);
  ASSERT_EQ(stats["links"].size(), 2u);
  EXPECT_EQ(stats["links"][0]["from"], "a.lan");
  EXPECT_EQ(stats["links"][0]["to"], "b.lan");
  EXPECT_EQ(stats["links"][0]["frames"], 1);
  EXPECT_EQ(stats["links"][0]["bytes"], 60);
  EXPECT_EQ(stats["links"][1]["frames"], 0);
}

TEST_F(ControlTest, SourcesTellWhatComesInFromWhom) {
  Frame frame = Broadcast();
  frame[6] = std::byte{0x52};
  frame[11] = std::byte{0x0a};
  switch_.Receive(1, frame, 7);
  EXPECT_EQ(Say(R"({"op": "sources"})"), Json({{"sources",
                                                {{{"port", "b.lan"},
                                                  {"address", "52:00:00:00:00:0a"},
                                                  {"frames", 1},
                                                  {"reverse_arps", 0},
                                                  {"last_ns", 7}}}}}));
}

TEST_F(ControlTest, WhatMakesNoSenseIsAnsweredByTheReason) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"", "not an object"},
      {"[1]", "not an object"},
      {"{\"op\": \"cle", "not an object"},
      {"{}", "\"op\""},
      {R"({"op": 7})", "\"op\""},
      {R"({"op": "explode"})", "explode"},
      {R"({"op": "link", "to": "*", "rule": {}})", "\"from\""},
      {R"({"op": "link", "from": "*", "rule": {}})", "\"to\""},
      {R"({"op": "link", "from": "*", "to": "*"})", "\"rule\""},
      {R"({"op": "link", "from": "*", "to": "*", "rule": {"cut": 1}})", "\"cut\""},
      {R"({"op": "link", "from": "*", "to": "*", "rule": {"loss": "much"}})", "\"loss\""},
      {R"({"op": "link", "from": "*", "to": "*", "rule": {"delay_us": 1.5}})", "\"delay_us\""},
      {R"({"op": "link", "from": "*", "to": "*", "rule": {"colour": 1}})", "\"colour\""},
      {R"({"op": "link", "from": "*", "to": "*", "rule": {"loss": 3}})", "loss is 3"},
      {R"({"op": "link", "from": "x", "to": "*", "rule": {}})", "from x to *"},
      {"{\"op\": \"\xff\"}", "not an object"},
  };
  for (const auto& [line, reason] : refused) {
    const Json answer = Say(line);
    ASSERT_TRUE(answer.contains("error")) << line;
    EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr(reason)) << line;
  }
}

}  // namespace
}  // namespace haven
