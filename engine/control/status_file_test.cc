// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_file.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "engine/base/manual_clock.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/event_log.h"
#include "engine/control/status_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class StatusFileTest : public testing::Test {
 protected:
  absl::Status WriteAt(int64_t written_ns) {
    StatusSnapshot snapshot;
    snapshot.group = "web";
    snapshot.written_ns = written_ns;
    return WriteStatusFile(path_, StatusToJson(snapshot));
  }

  ShortFolder folder_;
  const std::string path_ = folder_.File("web.status");
  ManualClock clock_{100 * kNsPerSecond};
};

TEST_F(StatusFileTest, IsReadWithItsAge) {
  ASSERT_TRUE(WriteAt(99 * kNsPerSecond).ok());
  absl::StatusOr<StatusFile> file = ReadStatusFile(path_, clock_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->snapshot.group, "web");
  EXPECT_EQ(file->reading.age_ns, 1 * kNsPerSecond);
  EXPECT_FALSE(file->reading.stale);
  clock_.AdvanceNs(kStaleNs);
  file = ReadStatusFile(path_, clock_);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->reading.stale);
}

TEST_F(StatusFileTest, OneOfAnEarlierRunOfTheHostIsStale) {
  ASSERT_TRUE(WriteAt(101 * kNsPerSecond).ok());
  const absl::StatusOr<StatusFile> file = ReadStatusFile(path_, clock_);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->reading.stale);
  EXPECT_GE(file->reading.age_ns, 0);
}

TEST_F(StatusFileTest, IsReplacedAsAWhole) {
  ASSERT_TRUE(WriteStatusFile(path_, std::string(100000, 'x')).ok());
  ASSERT_TRUE(WriteStatusFile(path_, "short").ok());
  EXPECT_EQ(Contents(path_), "short");
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(
      info.st_mode & 0777, 0644 & ~[] {
        const mode_t mask = umask(0);
        umask(mask);
        return mask;
      }());
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
}

TEST_F(StatusFileTest, ErrorsNameTheFile) {
  EXPECT_TRUE(absl::IsNotFound(ReadStatusFile(path_, clock_).status()));
  ASSERT_TRUE(WriteStatusFile(path_, "nonsense").ok());
  const absl::Status garbage = ReadStatusFile(path_, clock_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(garbage));
  EXPECT_THAT(std::string(garbage.message()), testing::HasSubstr(path_));
  ASSERT_TRUE(WriteStatusFile(path_, std::string(kMaxStatusBytes + 1, ' ')).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ReadStatusFile(path_, clock_).status()));
  const absl::Status no_folder = WriteStatusFile(folder_.File("none/status"), "x");
  EXPECT_FALSE(no_folder.ok());
  EXPECT_THAT(std::string(no_folder.message()), testing::HasSubstr("none/status"));
}

class EventLogTest : public testing::Test {
 protected:
  static StatusEvent Event(uint64_t epoch) {
    StatusEvent event;
    event.group = "web";
    event.epoch = epoch;
    return event;
  }

  ShortFolder folder_;
  const std::string path_ = folder_.File("web.events");
};

TEST_F(EventLogTest, AppendsLines) {
  const EventLog log(path_, uint64_t{1} << 20);
  ASSERT_TRUE(log.Append(Event(1)).ok());
  ASSERT_TRUE(EventLog(path_, uint64_t{1} << 20).Append(Event(2)).ok());
  EXPECT_EQ(Contents(path_), EventToJson(Event(1)) + "\n" + EventToJson(Event(2)) + "\n");
}

TEST_F(EventLogTest, KeepsTwoFilesOfBoundedSize) {
  const uint64_t line_bytes = EventToJson(Event(10)).size() + 1;
  const EventLog log(path_, 3 * line_bytes);
  for (uint64_t epoch = 10; epoch < 18; ++epoch) {
    ASSERT_TRUE(log.Append(Event(epoch)).ok());
    EXPECT_LE(std::filesystem::file_size(path_), 3 * line_bytes);
  }
  EXPECT_EQ(Contents(path_), EventToJson(Event(16)) + "\n" + EventToJson(Event(17)) + "\n");
  EXPECT_EQ(Contents(path_ + ".1"), EventToJson(Event(13)) + "\n" + EventToJson(Event(14)) + "\n" +
                                        EventToJson(Event(15)) + "\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 2);
}

TEST_F(EventLogTest, AnEventLargerThanTheBoundIsKept) {
  const EventLog log(path_, 10);
  ASSERT_TRUE(log.Append(Event(1)).ok());
  ASSERT_TRUE(log.Append(Event(2)).ok());
  EXPECT_EQ(Contents(path_), EventToJson(Event(2)) + "\n");
}

TEST_F(EventLogTest, ErrorsNameTheFile) {
  const absl::Status status = EventLog(folder_.File("none/e"), 10).Append(Event(1));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("none/e"));
}

}  // namespace
}  // namespace haven
