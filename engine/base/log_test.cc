// SPDX-License-Identifier: Apache-2.0
#include "engine/base/log.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

std::string Format(LogLevel level, int64_t wall_ns, absl::string_view component,
                   absl::string_view message) {
  char line[kLogLineMaxBytes];
  return std::string(line, FormatLogLine(line, level, wall_ns, component, message));
}

// Restores the level that a test changes.
class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override { SetLogLevel(LogLevel::kInfo); }
};

TEST_F(LogTest, FormatsTimeLevelComponentAndMessage) {
  EXPECT_EQ(Format(LogLevel::kInfo, 1'795'356'306'123'456'789, "primary", "epoch=1"),
            "2026-11-22T14:05:06.123456Z INFO  primary: epoch=1\n");
}

TEST_F(LogTest, FormatsTheCornersOfTheCalendar) {
  const auto date = [](int64_t seconds) {
    return Format(LogLevel::kError, seconds * 1'000'000'000, "c", "m").substr(0, 19);
  };
  EXPECT_EQ(date(0), "1970-01-01T00:00:00");
  EXPECT_EQ(date(-5), "1970-01-01T00:00:00");
  EXPECT_EQ(date(951'782'400), "2000-02-29T00:00:00");
  EXPECT_EQ(date(951'868'800), "2000-03-01T00:00:00");
  EXPECT_EQ(date(1'735'689'599), "2024-12-31T23:59:59");
  EXPECT_EQ(date(1'735'689'600), "2025-01-01T00:00:00");
  EXPECT_EQ(date(4'107'542'399), "2100-02-28T23:59:59");
  EXPECT_EQ(date(4'107'542'400), "2100-03-01T00:00:00");
}

TEST_F(LogTest, EveryLevelHasItsLabel) {
  EXPECT_THAT(Format(LogLevel::kDebug, 0, "c", "m"), HasSubstr(" DEBUG c: m"));
  EXPECT_THAT(Format(LogLevel::kInfo, 0, "c", "m"), HasSubstr(" INFO  c: m"));
  EXPECT_THAT(Format(LogLevel::kWarning, 0, "c", "m"), HasSubstr(" WARN  c: m"));
  EXPECT_THAT(Format(LogLevel::kError, 0, "c", "m"), HasSubstr(" ERROR c: m"));
  EXPECT_THAT(Format(LogLevel::kFatal, 0, "c", "m"), HasSubstr(" FATAL c: m"));
}

TEST_F(LogTest, TextFromOutsideCanNotForgeARecord) {
  EXPECT_THAT(Format(LogLevel::kInfo, 0, "c", "a\nb\tc\x1b[31m\x7f\r"),
              HasSubstr("c: a\\nb\\tc\\x1b[31m\\x7f\\x0d\n"));
  const std::string guest("web\0one", 7);
  EXPECT_THAT(Format(LogLevel::kInfo, 0, "c", guest), HasSubstr("web\\x00one\n"));
}

TEST_F(LogTest, CutsLongRecordsVisiblyAtTheLimit) {
  const size_t prefix = Format(LogLevel::kInfo, 0, "c", "").size() - 1;
  const std::string fits(kLogLineMaxBytes - prefix - 1, 'x');
  EXPECT_EQ(Format(LogLevel::kInfo, 0, "c", fits).substr(prefix), fits + "\n");
  const std::string cut = Format(LogLevel::kInfo, 0, "c", fits + "y");
  EXPECT_EQ(cut.size(), kLogLineMaxBytes);
  EXPECT_EQ(cut.substr(cut.size() - 5), "x...\n");
}

TEST_F(LogTest, RefusesABufferThatIsTooSmall) {
  char line[127];
  EXPECT_EQ(FormatLogLine(line, LogLevel::kInfo, 0, "c", "m"), 0u);
}

TEST_F(LogTest, LevelDecidesWhatIsWrittenAndEvaluated) {
  int evaluated = 0;
  CaptureStderr();
  HAVEN_LOG(kDebug, "test") << "hidden" << ++evaluated;
  HAVEN_LOG(kInfo, "test") << "shown " << 17;
  SetLogLevel(LogLevel::kError);
  HAVEN_LOG(kWarning, "test") << "hidden too" << ++evaluated;
  SetLogLevel(LogLevel::kDebug);
  HAVEN_LOG(kDebug, "test") << "debug now";
  const std::string out = GetCapturedStderr();
  EXPECT_EQ(evaluated, 0);
  EXPECT_THAT(out, MatchesRegex("[^ ]+Z INFO  test: shown 17\n[^ ]+Z DEBUG test: debug now\n"));
}

TEST_F(LogTest, BindsToItsOwnIf) {
  bool other_branch = false;
  if (false)
    HAVEN_LOG(kInfo, "test") << "never";
  else
    other_branch = true;
  EXPECT_TRUE(other_branch);
}

TEST_F(LogTest, KeepsErrno) {
  CaptureStderr();
  errno = ENOSPC;
  WriteLogLine(LogLevel::kInfo, "test", "m");
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("INFO  test: m\n"));
}

TEST_F(LogTest, AReaderThatHasStoppedDoesNotStopTheWriter) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int old_stderr = dup(STDERR_FILENO);
  ASSERT_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
  const std::string text(4000, 'x');
  for (int i = 0; i < 100; ++i) WriteLogLine(LogLevel::kInfo, "test", text);  // 400 KB into 64.
  std::string read_back(size_t{1} << 20, '\0');
  const ssize_t before = read(ends[0], read_back.data(), read_back.size());
  WriteLogLine(LogLevel::kInfo, "test", "heard again");
  const ssize_t after = read(ends[0], read_back.data(), read_back.size());
  dup2(old_stderr, STDERR_FILENO);
  for (const int fd : {old_stderr, ends[0], ends[1]}) close(fd);
  EXPECT_GT(before, 0);
  ASSERT_GT(after, 0);
  read_back.resize(static_cast<size_t>(after));
  EXPECT_THAT(read_back, HasSubstr("records dropped: the log was not read"));
  EXPECT_THAT(read_back, HasSubstr("heard again"));
}

TEST_F(LogTest, RecordsOfThreadsDoNotMix) {
  constexpr int kThreads = 4;
  constexpr int kRecords = 200;
  CaptureStderr();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      const std::string text(500, static_cast<char>('a' + t));
      for (int i = 0; i < kRecords; ++i) HAVEN_LOG(kInfo, "test") << text;
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::string> lines = absl::StrSplit(GetCapturedStderr(), '\n');
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  ASSERT_EQ(lines.size(), size_t{kThreads * kRecords});
  for (const std::string& line : lines) {
    ASSERT_THAT(line, MatchesRegex("[^ ]+Z INFO  test: (a+|b+|c+|d+)"));
    ASSERT_EQ(line.size(), std::string("2026-11-22T14:05:06.123456Z INFO  test: ").size() + 500);
  }
}

TEST_F(LogTest, ParsesLevels) {
  for (const auto& [name, level] :
       std::vector<std::pair<std::string, LogLevel>>{{"debug", LogLevel::kDebug},
                                                     {"info", LogLevel::kInfo},
                                                     {"warning", LogLevel::kWarning},
                                                     {"error", LogLevel::kError},
                                                     {"fatal", LogLevel::kFatal}}) {
    const absl::StatusOr<LogLevel> parsed = ParseLogLevel(name);
    ASSERT_TRUE(parsed.ok()) << name;
    EXPECT_EQ(*parsed, level);
    SetLogLevel(level);
    EXPECT_EQ(GetLogLevel(), level);
  }
  const absl::StatusOr<LogLevel> unknown = ParseLogLevel("INFO");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("\"INFO\""));
  EXPECT_FALSE(ParseLogLevel("").ok());
}

}  // namespace
}  // namespace haven
