// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_text.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "engine/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;
using testing::Not;

StatusSnapshot Primary() {
  StatusSnapshot s;
  s.role = "primary";
  s.node_id = "host-a";
  s.group = "web";
  s.guests = {"g1", "g2"};
  s.pid = 42;
  s.state = "protected";
  s.reason = "every epoch is acknowledged by the backup";
  s.session = 0xab;
  s.link = 2;
  s.link_state = "up";
  s.registered = {.known = true, .term = 3, .owner = "host-a.1", .mode = "promotable"};
  s.arbiter = {.name = "file:/x", .answer = "granted", .cause = "", .age_ns = 0, .pending = ""};
  s.epoch.committed = 900;
  s.epoch.age_ns = 12 * kNsPerMs;
  s.epoch.interval_ns = 50 * kNsPerMs;
  s.pause = {
      .count = 10, .last_ns = 1, .p50_ns = 1'500'000, .p99_ns = 2'500'000, .max_ns = 9'000'000};
  s.phases[static_cast<size_t>(Phase::kCopy)] = {
      .count = 10, .last_ns = 1, .p50_ns = 700'000, .p99_ns = 800'000, .max_ns = 900'000};
  return s;
}

TEST(StatusTextTest, DurationsAndSizesForPeople) {
  EXPECT_EQ(HumanDuration(0), "0 ns");
  EXPECT_EQ(HumanDuration(9'999), "9999 ns");
  EXPECT_EQ(HumanDuration(10'000), "10 us");
  EXPECT_EQ(HumanDuration(12 * kNsPerMs), "12 ms");
  EXPECT_EQ(HumanDuration(59 * kNsPerSecond), "59 s");
  EXPECT_EQ(HumanDuration(125 * kNsPerSecond), "2 min 5 s");
  EXPECT_EQ(HumanDuration(7'260 * kNsPerSecond), "2 h 1 min");
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(uint64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(HumanBytes(UINT64_MAX), "16384.0 PiB");
}

TEST(StatusTextTest, TellsWhatAnOperatorNeeds) {
  const std::string text = StatusToText(Primary(), {.age_ns = 1 * kNsPerMs, .stale = false});
  EXPECT_THAT(text, HasSubstr("web (g1, g2): primary on host-a\n"));
  EXPECT_THAT(text, HasSubstr("protected since 1970-01-01T00:00:00Z: every epoch"));
  EXPECT_THAT(text, HasSubstr("00000000000000ab, link 2 up"));
  EXPECT_THAT(text, HasSubstr("term 3, owner host-a.1, promotable"));
  EXPECT_THAT(text, HasSubstr("900 committed 13 ms ago, interval 50 ms"));
  EXPECT_THAT(text, HasSubstr("pause      p50 1500 us    p99 2500 us    max 9000 us"));
  EXPECT_THAT(text, HasSubstr("copy       p50 700 us"));
  EXPECT_THAT(text, Not(HasSubstr("encode")));
  EXPECT_THAT(text, Not(HasSubstr("remedy")));
  EXPECT_THAT(text, Not(HasSubstr("warning")));
  EXPECT_THAT(text, Not(HasSubstr("disk ")));
  EXPECT_THAT(text, Not(HasSubstr("sync")));
}

TEST(StatusTextTest, TellsHowPagesAreMadeSmall) {
  EXPECT_THAT(StatusToText(Primary(), {}), Not(HasSubstr("codec")));
  EXPECT_THAT(StatusToPrometheus(Primary(), {}), Not(HasSubstr("haven_codec")));
  StatusSnapshot s = Primary();
  s.codec.mode = "auto";
  s.codec.level = "lz4";
  s.codec.coded_epochs = 40;
  s.codec.plain_epochs = 3;
  s.codec.memory_bytes = uint64_t{5} << 20;
  s.codec.pages = 1000;
  s.codec.unchanged = 100;
  s.codec.patched = 900;
  std::string text = StatusToText(s, {});
  EXPECT_THAT(text, HasSubstr("codec      auto, last epoch lz4 (the backup takes no coded pages); "
                              "40 epochs coded, 3 plain; memory 5.0 MiB\n"));
  EXPECT_THAT(text, HasSubstr("1000 pages: 100 unchanged, 0 zero, 0 equal to others, 900 in part"));
  EXPECT_THAT(text, Not(HasSubstr("MISSED")));
  s.codec.agreed = true;
  s.codec.missed_blocks = 2;
  text = StatusToText(s, {});
  EXPECT_THAT(text, Not(HasSubstr("takes no coded pages")));
  EXPECT_THAT(text, HasSubstr("MISSED by hashes: 2"));
  const std::string metrics = StatusToPrometheus(s, {});
  EXPECT_THAT(metrics, HasSubstr(",mode=\"auto\",level=\"lz4\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr(",kind=\"patched\"} 900\n"));
  EXPECT_THAT(metrics, HasSubstr("haven_codec_coded_epochs_total{"));
}

TEST(StatusTextTest, AStaleStatusSaysSoFirst) {
  const std::string text = StatusToText(Primary(), {.age_ns = 5 * kNsPerSecond, .stale = true});
  EXPECT_THAT(text, HasSubstr("state      stale: process 42 has written nothing for 5000 ms"));
  EXPECT_LT(text.find("stale"), text.find("protected"));
}

TEST(StatusTextTest, ShowsProgressTroubleAndRemedy) {
  StatusSnapshot s = Primary();
  s.state = "syncing";
  s.remedy = "do this";
  s.warning = "see to that";
  s.disk_covered = false;
  s.last_error = "it broke";
  s.session = kNoSession;
  s.registered.known = false;
  s.arbiter = {
      .name = "etcd:h:1", .answer = "unknown", .cause = "timeout", .age_ns = 0, .pending = "solo"};
  s.sync = {.active = true,
            .pages_done = 1000,
            .pages_left = 500,
            .pages_per_s = 256,
            .left_ns = 2 * kNsPerSecond};
  const std::string text = StatusToText(s, {});
  EXPECT_THAT(text, HasSubstr("remedy     do this"));
  EXPECT_THAT(text, HasSubstr("warning    see to that"));
  EXPECT_THAT(text, HasSubstr("disk       not covered"));
  EXPECT_THAT(text, HasSubstr("error      it broke"));
  EXPECT_THAT(text, HasSubstr("session    none"));
  EXPECT_THAT(text, HasSubstr("register   not seen yet"));
  EXPECT_THAT(text, HasSubstr("etcd:h:1: unknown 0 ns ago, asked for solo (timeout)"));
  EXPECT_THAT(text, HasSubstr("1000 pages copied, 500 left, 1.0 MiB/s, about 2000 ms to go"));
}

TEST(StatusTextTest, ABackupShowsWhatItHasApplied) {
  StatusSnapshot s = Primary();
  s.role = "backup";
  s.epoch.applied = 899;
  s.counters.applied_pages = 12;
  s.counters.received_bytes = 2048;
  const std::string text = StatusToText(s, {});
  EXPECT_THAT(text, HasSubstr("899 applied"));
  EXPECT_THAT(text, HasSubstr("12 pages, 2.0 KiB received"));
  EXPECT_THAT(text, Not(HasSubstr("output")));
}

TEST(StatusPrometheusTest, HasOneValuePerLineWithItsLabels) {
  StatusSnapshot s = Primary();
  s.group = "we\"b\\\n";
  const std::string text = StatusToPrometheus(s, {.age_ns = kNsPerSecond, .stale = false});
  const std::string labels = R"(group="we\"b\\\n",role="primary",node="host-a")";
  EXPECT_THAT(text, HasSubstr("# TYPE haven_state gauge\nhaven_state{" + labels +
                              ",state=\"protected\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("haven_committed_epoch{" + labels + "} 900\n"));
  EXPECT_THAT(text, HasSubstr("haven_commit_age_seconds{" + labels + "} 1.012\n"));
  EXPECT_THAT(text, HasSubstr("haven_pause_seconds{" + labels + ",quantile=\"0.99\"} 0.0025"));
  EXPECT_THAT(text, HasSubstr("haven_pause_seconds_count{" + labels + "} 10\n"));
  EXPECT_THAT(text,
              HasSubstr("haven_phase_seconds{" + labels + ",phase=\"copy\",quantile=\"0.5\"} "));
  EXPECT_THAT(text, HasSubstr("haven_stale{" + labels + "} 0\n"));
}

TEST(StatusPrometheusTest, SeveralGroupsShareTheHeadOfAMetric) {
  StatusSnapshot other = Primary();
  other.group = "mail";
  other.sync.active = true;  // It has a metric that the first one has not.
  PrometheusText text;
  text.Add(Primary(), {});
  text.Add(other, {});
  std::set<std::string> heads;
  std::string metric;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(text.Text(), '\n'))) {
    if (absl::StartsWith(line, "# ")) {
      EXPECT_TRUE(heads.insert(line).second) << "twice: " << line;
      metric = std::vector<std::string>(absl::StrSplit(line, ' '))[2];
    } else {
      EXPECT_TRUE(line.empty() || absl::StartsWith(line, metric)) << line << " below " << metric;
    }
  }
  EXPECT_THAT(text.Text(),
              HasSubstr("haven_stale{group=\"web\",role=\"primary\",node=\"host-a\"} 0\n"
                        "haven_stale{group=\"mail\","));
  EXPECT_THAT(text.Text(), HasSubstr("haven_sync_pages_left{group=\"mail\""));
}

TEST(StatusPrometheusTest, AStaleStatusHasNoState) {
  const std::string text = StatusToPrometheus(Primary(), {.age_ns = kNsPerSecond, .stale = true});
  EXPECT_THAT(text, Not(HasSubstr("haven_state{")));
  EXPECT_THAT(text, HasSubstr("haven_stale{group=\"web\",role=\"primary\",node=\"host-a\"} 1\n"));
}

TEST(StatusPrometheusTest, ABackupHasItsOwnNumbers) {
  StatusSnapshot s = Primary();
  s.role = "backup";
  const std::string text = StatusToPrometheus(s, {});
  EXPECT_THAT(text, HasSubstr("haven_applied_epoch{"));
  EXPECT_THAT(text, Not(HasSubstr("haven_pause_seconds")));
}

}  // namespace
}  // namespace haven
