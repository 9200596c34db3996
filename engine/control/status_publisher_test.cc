// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_publisher.h"

#include <filesystem>

#include "absl/strings/str_split.h"
#include "engine/base/file_util.h"
#include "engine/base/manual_clock.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/status_file.h"
#include "engine/control/status_tracker.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace haven {
namespace {

class StatusPublisherTest : public testing::Test {
 protected:
  StatusPublisherTest() {
    paths_.status = folder_.File("web.status");
    paths_.events = folder_.File("web.events");
  }

  std::vector<nlohmann::json> Events() {
    std::vector<nlohmann::json> events;
    const absl::StatusOr<std::string> text = ReadBoundedFile(paths_.events, size_t{1} << 20);
    if (!text.ok()) return events;
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
      events.push_back(nlohmann::json::parse(line.begin(), line.end()));
    }
    return events;
  }
  absl::StatusOr<StatusFile> Written() { return ReadStatusFile(paths_.status, clock_); }

  ShortFolder folder_;
  StatusPaths paths_;
  ManualClock clock_{100 * kNsPerSecond, 200 * kNsPerSecond};
};

TEST_F(StatusPublisherTest, AWarningIsPartOfTheStatus) {
  {
    (*StatusPublisher::Start(paths_, [] { return std::string("soon"); }))->Publish({});
  }
  const absl::StatusOr<StatusFile> file = Written();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->snapshot.warning, "soon");
}

TEST_F(StatusPublisherTest, WritesTheNewestStatusAndEveryEvent) {
  {
    const std::unique_ptr<StatusPublisher> publisher = *StatusPublisher::Start(paths_);
    for (int i = 0; i < 50; ++i) {
      StatusSnapshot snapshot;
      snapshot.pid = i;
      publisher->Publish(std::move(snapshot));
      StatusEvent event;
      event.epoch = static_cast<Epoch>(i);
      publisher->Record(std::move(event));
    }
  }
  const absl::StatusOr<StatusFile> file = Written();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->snapshot.pid, 49);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_EQ(events.size(), 50u);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i]["epoch"], i);
}

TEST_F(StatusPublisherTest, WithoutPathsNothingIsWritten) {
  {
    const std::unique_ptr<StatusPublisher> publisher = *StatusPublisher::Start({});
    publisher->Publish({});
    publisher->Record({});
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(StatusPublisherTest, AFolderThatIsNotThereIsSurvived) {
  paths_.status = folder_.File("none/status");
  paths_.events = folder_.File("none/events");
  {
    const std::unique_ptr<StatusPublisher> publisher = *StatusPublisher::Start(paths_);
    publisher->Publish({});
    publisher->Record({});
  }
  EXPECT_FALSE(Written().ok());
}

class StatusTrackerTest : public StatusPublisherTest {
 protected:
  StatusTrackerTest()
      : publisher_(*StatusPublisher::Start(paths_)),
        tracker_(StatusIdentity{.role = "primary", .node_id = "a", .group = "web", .guests = {}},
                 *publisher_, clock_) {}

  void Happened(const std::string& state, const std::string& cause,
                const absl::Status& error = absl::OkStatus()) {
    tracker_.Happened({.state = state, .term = 3, .session = 5, .link = 2, .epoch = 17}, cause,
                      error);
  }
  std::vector<nlohmann::json> Recorded() {
    publisher_.reset();
    return Events();
  }

  std::unique_ptr<StatusPublisher> publisher_;
  StatusTracker tracker_;
};

TEST_F(StatusTrackerTest, ATransitionIsAnEventWithTermEpochAndCause) {
  Happened("syncing", "copying");
  clock_.AdvanceNs(5 * kNsPerSecond);
  Happened("protected", "committed");
  const std::vector<nlohmann::json> events = Recorded();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["from"], "syncing");
  EXPECT_EQ(events[1]["from"], "syncing");
  EXPECT_EQ(events[1]["to"], "protected");
  EXPECT_EQ(events[1]["term"], 3);
  EXPECT_EQ(events[1]["epoch"], 17);
  EXPECT_EQ(events[1]["cause"], "committed");
  EXPECT_EQ(events[1]["time"], "1970-01-01T00:03:25.000000Z");
  EXPECT_EQ(tracker_.Begin().since_wall_ns, 205 * kNsPerSecond);
}

TEST_F(StatusTrackerTest, RepetitionsAreCounted) {
  Happened("paused", "guests stay stopped");
  for (int i = 0; i < 9; ++i) Happened("paused", "guests stay stopped");
  clock_.AdvanceNs(StatusTracker::kRepeatNs);
  Happened("paused", "guests stay stopped");
  Happened("paused", "link up");
  const std::vector<nlohmann::json> events = Recorded();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_FALSE(events[0].contains("suppressed"));
  EXPECT_EQ(events[1]["suppressed"], 9);
  EXPECT_FALSE(events[2].contains("suppressed"));
}

TEST_F(StatusTrackerTest, AComplaintIsToldOnce) {
  Happened("unprotected", "no backup", absl::UnavailableError("nobody listens"));
  Happened("syncing", "copying", absl::UnavailableError("nobody listens"));
  Happened("unprotected", "lost", absl::DataLossError("torn"));
  const std::vector<nlohmann::json> events = Recorded();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["detail"], "nobody listens");
  EXPECT_FALSE(events[1].contains("detail"));
  EXPECT_EQ(events[2]["detail"], "torn");
}

TEST_F(StatusTrackerTest, PublishesTransitionsAtOnceAndNumbersNowAndThen) {
  Happened("syncing", "copying");
  EXPECT_TRUE(tracker_.PublishDue(false));
  tracker_.Publish(tracker_.Begin());
  EXPECT_FALSE(tracker_.PublishDue(true));
  clock_.AdvanceNs(StatusTracker::kPublishNs);
  EXPECT_FALSE(tracker_.PublishDue(false));
  EXPECT_TRUE(tracker_.PublishDue(true));
  tracker_.Publish(tracker_.Begin());
  Happened("syncing", "link up");
  EXPECT_FALSE(tracker_.PublishDue(true)) << "no transition";
  Happened("protected", "committed");
  EXPECT_TRUE(tracker_.PublishDue(false));
  tracker_.Publish(tracker_.Begin());
  EXPECT_EQ(tracker_.NextWakeNs(), clock_.NowNs() + kStatusRefreshNs);
  clock_.AdvanceNs(kStatusRefreshNs);
  EXPECT_TRUE(tracker_.PublishDue(false)) << "so that it does not become stale";
}

TEST_F(StatusTrackerTest, KnowsWhetherAnEventIsDue) {
  EXPECT_TRUE(tracker_.Differs("syncing"));
  Happened("syncing", "copying");
  EXPECT_FALSE(tracker_.Differs("syncing"));
  EXPECT_TRUE(tracker_.Differs("protected"));
}

}  // namespace
}  // namespace haven
