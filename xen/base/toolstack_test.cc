// SPDX-License-Identifier: Apache-2.0
#include "xen/base/toolstack.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

// With a shell script in the toolstack's place.
class ToolstackTest : public ::testing::Test {
 protected:
  ToolstackTest() : folder_(fs::path(::testing::TempDir()) / "toolstack") {
    fs::create_directories(folder_);
    setenv("PATH", absl::StrCat(folder_.string(), ":/usr/bin:/bin").c_str(), 1);
  }
  ~ToolstackTest() override { fs::remove_all(folder_); }

  absl::StatusOr<std::string> Run(const std::string& script,
                                  absl::Duration timeout = absl::Seconds(60)) {
    const fs::path xl = folder_ / "xl";
    std::ofstream(xl) << "#!/bin/sh\n" << script << "\n";
    chmod(xl.c_str(), 0700);
    return RunXl({"list", "-l"}, timeout);
  }

  const fs::path folder_;
};

TEST_F(ToolstackTest, ReturnsWhatItPrints) {
  const auto printed = Run("echo \"$1 $2\"; echo noise >&2");
  ASSERT_TRUE(printed.ok()) << printed.status();
  EXPECT_EQ(*printed, "list -l\n");
}

TEST_F(ToolstackTest, AFailureHasItsWords) {
  const absl::Status status = Run("echo no such domain >&2; exit 3").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("`xl list -l` ended with 3: no such domain"));
}

TEST_F(ToolstackTest, OneThatDoesNotEndIsKilledWithWhatItStarted) {
  const int64_t begun_ns = SystemClock::Get().NowNs();
  const absl::Status status = Run("sleep 1000 & sleep 1000", absl::Milliseconds(200)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_LT(SystemClock::Get().NowNs() - begun_ns, 30 * kNsPerSecond);
}

TEST_F(ToolstackTest, OneThatClosesItsOutputAndDoesNotEndIsKilled) {
  const int64_t begun_ns = SystemClock::Get().NowNs();
  const absl::Status status = Run("exec >&- 2>&-; sleep 1000").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("killed by signal 9"));
  EXPECT_LT(SystemClock::Get().NowNs() - begun_ns, 30 * kNsPerSecond);
}

TEST_F(ToolstackTest, ItsOutputIsBounded) {
  EXPECT_TRUE(absl::IsResourceExhausted(Run("yes").status()));
}

TEST_F(ToolstackTest, ItHasItsSignalsWhateverWeDoWithOurs) {
  sigset_t ours;
  sigset_t before;
  sigfillset(&ours);
  ASSERT_EQ(sigprocmask(SIG_BLOCK, &ours, &before), 0);
  const auto handler = signal(SIGPIPE, SIG_IGN);
  const auto printed = Run("sed -n 's/^Sig[BI][lg][kn]:.//p' /proc/self/status");
  signal(SIGPIPE, handler);
  ASSERT_EQ(sigprocmask(SIG_SETMASK, &before, nullptr), 0);
  ASSERT_TRUE(printed.ok()) << printed.status();
  // Blocked ones, then ignored ones.
  const std::vector<std::string> sets = absl::StrSplit(*printed, '\n', absl::SkipEmpty());
  ASSERT_EQ(sets.size(), 2u) << *printed;
  EXPECT_EQ(sets[0], "0000000000000000");
  uint64_t ignored = 0;
  ASSERT_TRUE(absl::SimpleHexAtoi(sets[1], &ignored));
  EXPECT_EQ(ignored & (uint64_t{1} << (SIGPIPE - 1)), 0u);
}

}  // namespace
}  // namespace haven
