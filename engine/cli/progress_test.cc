// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/progress.h"

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "engine/base/clock.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/status_file.h"
#include "engine/control/status_json.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

StatusSnapshot Syncing() {
  StatusSnapshot snapshot;
  snapshot.written_ns = SystemClock::Get().NowNs();
  snapshot.role = "primary";
  snapshot.group = "web";
  snapshot.state = "syncing";
  snapshot.sync = {.active = true,
                   .pages_done = 300,
                   .pages_left = 100,
                   .pages_per_s = 50,
                   .left_ns = 2 * kNsPerSecond};
  return snapshot;
}

TEST(SyncLineTest, SaysHowMuchHowFastAndHowLong) {
  EXPECT_EQ(SyncLine(Syncing()),
            "group web: copying memory: 300 of 400 pages (75%), 50 pages/s, 2000 ms left");
  StatusSnapshot unknown = Syncing();
  unknown.sync.left_ns = kNoTime;
  EXPECT_EQ(SyncLine(unknown), "group web: copying memory: 300 of 400 pages (75%), 50 pages/s");
  StatusSnapshot none = Syncing();
  none.sync.pages_done = none.sync.pages_left = 0;
  EXPECT_EQ(SyncLine(none), "group web: copying memory: starting");
}

TEST(SyncLineTest, SaysNothingWhileNothingIsCopiedFromHere) {
  StatusSnapshot snapshot = Syncing();
  snapshot.sync.active = false;
  EXPECT_EQ(SyncLine(snapshot), "");
  snapshot = Syncing();
  snapshot.role = "backup";
  EXPECT_EQ(SyncLine(snapshot), "");
}

// What is printed while a status says "syncing" and then "protected".
std::string Printed(ProgressForm form, const std::string& while_syncing) {
  const ShortFolder folder;
  const std::string status = folder.File("web.status");
  const std::string printed = folder.File("printed");
  FILE* const out = std::fopen(printed.c_str(), "w");
  EXPECT_NE(out, nullptr);
  EXPECT_TRUE(WriteStatusFile(status, StatusToJson(Syncing())).ok());
  const auto shows = [&](const std::string& text) {
    return WaitFor(
        [&] { return ReadBoundedFile(printed, 10000)->find(text) != std::string::npos; });
  };
  {
    const absl::StatusOr<std::unique_ptr<SyncProgress>> progress =
        SyncProgress::Start(status, form, out);
    EXPECT_TRUE(progress.ok()) << progress.status();
    EXPECT_TRUE(shows(while_syncing));
    StatusSnapshot done = Syncing();
    done.sync.active = false;
    done.state = "protected";
    done.reason = "every epoch is acknowledged";
    EXPECT_TRUE(WriteStatusFile(status, StatusToJson(done)).ok());
    EXPECT_TRUE(shows("protected"));
  }
  std::fclose(out);
  return *ReadBoundedFile(printed, 10000);
}

TEST(SyncProgressTest, PrintsEachLineOnceAndWhatCameOfIt) {
  EXPECT_EQ(Printed(ProgressForm::kText, "75%"),
            SyncLine(Syncing()) + "\ngroup web: protected: every epoch is acknowledged\n");
}

TEST(SyncProgressTest, PrintsTheStatusAsJson) {
  const std::string printed = Printed(ProgressForm::kJson, R"("state":"syncing")");
  const std::vector<std::string> lines = absl::StrSplit(printed, '\n');
  ASSERT_EQ(lines.size(), 3u) << printed;
  for (size_t i = 0; i < 2; ++i) {
    const absl::StatusOr<StatusSnapshot> read = StatusFromJson(lines[i]);
    ASSERT_TRUE(read.ok()) << read.status() << " " << lines[i];
    EXPECT_EQ(read->state, i == 0 ? "syncing" : "protected");
    EXPECT_EQ(read->sync.pages_per_s, 50u);
  }
  EXPECT_EQ(lines[2], "");
}

}  // namespace
}  // namespace haven
