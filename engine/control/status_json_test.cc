// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_json.h"

#include <limits>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace haven {
namespace {

using testing::HasSubstr;

StatusSnapshot FullSnapshot() {
  StatusSnapshot s;
  s.written_ns = 123;
  s.written_wall_ns = 1700000000000000000;
  s.pid = 42;
  s.role = "primary";
  s.node_id = "host-a";
  s.group = "web";
  s.guests = {"g1", "g2"};
  s.state = "degraded";
  s.since_wall_ns = 1600000000000000000;
  s.reason = "no link";
  s.remedy = "check \"it\"";
  s.warning = "soon";
  s.disk_covered = false;
  s.activity = "running";
  s.last_error = "line\nbreak";
  s.session = 0xfedcba9876543210;
  s.link = 3;
  s.link_state = "up";
  s.registered = {.known = true,
                  .term = 7,
                  .owner = "host-a.1",
                  .mode = "promotable",
                  .session = 0xfedcba9876543210,
                  .running = false};
  s.arbiter = {
      .name = "file:/x", .answer = "unknown", .cause = "c", .age_ns = 5, .pending = "solo"};
  s.epoch = {.committed = std::numeric_limits<uint64_t>::max(),
             .age_ns = 1,
             .in_flight = 2,
             .applied = 3,
             .interval_ns = 4,
             .pages = 5,
             .wire_bytes = 6};
  s.sync = {.active = true, .pages_done = 1, .pages_left = 2, .pages_per_s = 3, .left_ns = kNoTime};
  s.output = {.held_packets = 1,
              .held_bytes = 2,
              .released_packets = 3,
              .dropped_packets = 4,
              .last_held_ns = 5,
              .longest_held_ns = 6};
  s.codec = {"auto", "lz4", true, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  s.counters = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  s.pause = {.count = 1, .last_ns = 2, .p50_ns = 3, .p99_ns = 4, .max_ns = 5};
  for (size_t i = 0; i < kPhases; ++i) s.phases[i].count = 100 + i;
  return s;
}

TEST(StatusJsonTest, WhatWasWrittenIsRead) {
  const StatusSnapshot written = FullSnapshot();
  const std::string text = StatusToJson(written);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const absl::StatusOr<StatusSnapshot> read = StatusFromJson(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(StatusToJson(*read), text);
  EXPECT_EQ(read->session, written.session);
  EXPECT_EQ(read->epoch.committed, written.epoch.committed);
  EXPECT_EQ(read->sync.left_ns, kNoTime);
  EXPECT_EQ(read->guests, written.guests);
  EXPECT_EQ(read->output.longest_held_ns, 6);
  EXPECT_EQ(read->phases[kPhases - 1].count, 100 + kPhases - 1);
  EXPECT_FALSE(read->registered.running);
}

TEST(StatusJsonTest, KeysAreWhatTheDocumentsSay) {
  const auto json = nlohmann::json::parse(StatusToJson(FullSnapshot()));
  EXPECT_EQ(json["session"], "fedcba9876543210");
  EXPECT_EQ(json["register"]["mode"], "promotable");
  EXPECT_EQ(json["phases"]["suspend"]["count"], 100);
  EXPECT_EQ(json["phases"]["commit"]["count"], 108);
  EXPECT_EQ(json["counters"]["delta_pages"], 3);
  EXPECT_EQ(json["counters"]["delta_bytes"], 4);
}

TEST(StatusJsonTest, AReaderSeesAgesAsOfNowAndWhetherTheWriterIsGone) {
  StatusSnapshot snapshot = FullSnapshot();
  snapshot.epoch.age_ns = 5;
  snapshot.arbiter.age_ns = kNoTime;
  const auto json =
      nlohmann::json::parse(StatusToJson(snapshot, {.age_ns = 4'000'000'000, .stale = true}));
  EXPECT_EQ(json["stale"], true);
  EXPECT_EQ(json["status_age_ns"], 4'000'000'000);
  EXPECT_EQ(json["epoch"]["age_ns"], 4'000'000'005);
  EXPECT_EQ(json["arbiter"]["age_ns"], kNoTime);
  EXPECT_EQ(json["state"], snapshot.state);
}

TEST(StatusJsonTest, UnknownKeysArePassedOver) {
  const std::string text = StatusToJson(FullSnapshot());
  EXPECT_TRUE(StatusFromJson(absl::StrReplaceAll(text, {{R"({"written_ns")",
                                                         R"({"new":[1,{"a":2}],"written_ns")"}}))
                  .ok());
}

TEST(StatusJsonTest, EachKeyIsNeeded) {
  const auto whole = nlohmann::json::parse(StatusToJson(FullSnapshot()));
  for (const auto& item : whole.items()) {
    auto json = whole;
    json.erase(item.key());
    const absl::StatusOr<StatusSnapshot> read = StatusFromJson(json.dump());
    ASSERT_TRUE(absl::IsInvalidArgument(read.status())) << item.key();
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(item.key()));
  }
}

TEST(StatusJsonTest, WrongTypesAreNamed) {
  const auto whole = nlohmann::json::parse(StatusToJson(FullSnapshot()));
  const auto complaint = [&](const char* pointer, const nlohmann::json& value) {
    auto json = whole;
    json[nlohmann::json::json_pointer(pointer)] = value;
    return std::string(StatusFromJson(json.dump()).status().message());
  };
  EXPECT_EQ(complaint("/group", 1), "status: group is not text");
  EXPECT_EQ(complaint("/guests", "g1"), "status: guests is not a list");
  EXPECT_EQ(complaint("/guests", {1}), "status: guests is not a list of text");
  EXPECT_EQ(complaint("/session", "12"), "status: session is not 16 hexadecimal digits");
  EXPECT_EQ(complaint("/session", "xxxxxxxxxxxxxxxx"),
            "status: session is not 16 hexadecimal digits");
  EXPECT_EQ(complaint("/link", -1), "status: link is not a number from 0 on");
  EXPECT_EQ(complaint("/link", uint64_t{1} << 32), "status: link is too large");
  EXPECT_EQ(complaint("/written_ns", 1.5), "status: written_ns is not a number of 64 bits");
  EXPECT_EQ(complaint("/written_ns", std::numeric_limits<uint64_t>::max()),
            "status: written_ns is not a number of 64 bits");
  EXPECT_EQ(complaint("/epoch", 3), "status: epoch is not an object");
  EXPECT_EQ(complaint("/sync/active", 1), "status: sync.active is not true or false");
  EXPECT_EQ(complaint("/phases/copy/max_ns", "x"),
            "status: phases.copy.max_ns is not a number from 0 on");
}

TEST(StatusJsonTest, WhatIsNoJsonIsRefused) {
  for (const char* text : {"", "{", "[]", "null", "\xff\xfe", "{\"a\":1}x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(StatusFromJson(text).status())) << text;
  }
  EXPECT_FALSE(StatusFromJson(std::string(100000, '[')).ok());
}

TEST(StatusJsonTest, BytesThatAreNoTextAreReplaced) {
  StatusSnapshot s = FullSnapshot();
  s.last_error = "bad \xff byte";
  const absl::StatusOr<StatusSnapshot> read = StatusFromJson(StatusToJson(s));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->last_error, "bad \xef\xbf\xbd byte");
}

TEST(StatusJsonTest, AnEventIsOneLine) {
  StatusEvent event;
  event.wall_ns = 1700000000123456789;
  event.role = "primary";
  event.group = "web";
  event.term = 3;
  event.session = 0xab;
  event.epoch = 17;
  event.from = "protected";
  event.to = "degraded";
  event.cause = "link\nlost";
  const std::string line = EventToJson(event);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.123456Z");
  EXPECT_EQ(json["session"], "00000000000000ab");
  EXPECT_EQ(json["cause"], "link\nlost");
  EXPECT_FALSE(json.contains("detail"));
  EXPECT_FALSE(json.contains("suppressed"));
}

}  // namespace
}  // namespace haven
