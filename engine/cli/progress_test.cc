// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/progress.h"

#include <cstdio>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/file_util.h"
#include "engine/control/control_testing.h"
#include "engine/control/status_file.h"
#include "engine/control/status_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;

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

TEST(SyncProgressTest, PrintsEachLineOnceAndWhatCameOfIt) {
  const TestFolder folder;
  const std::string status = folder.File("web.status");
  const std::string printed = folder.File("printed");
  FILE* const out = std::fopen(printed.c_str(), "w");
  ASSERT_NE(out, nullptr);
  ASSERT_TRUE(WriteStatusFile(status, StatusToJson(Syncing())).ok());
  const auto shows = [&](const std::string& text) {
    return WaitFor(
        [&] { return ReadBoundedFile(printed, 10000)->find(text) != std::string::npos; });
  };
  {
    const SyncProgress progress(status, out);
    EXPECT_TRUE(shows("75%"));
    StatusSnapshot done = Syncing();
    done.sync.active = false;
    done.state = "protected";
    done.reason = "every epoch is acknowledged";
    ASSERT_TRUE(WriteStatusFile(status, StatusToJson(done)).ok());
    EXPECT_TRUE(shows("protected"));
  }
  std::fclose(out);
  EXPECT_EQ(*ReadBoundedFile(printed, 10000),
            SyncLine(Syncing()) + "\ngroup web: protected: every epoch is acknowledged\n");
}

}  // namespace
}  // namespace haven
