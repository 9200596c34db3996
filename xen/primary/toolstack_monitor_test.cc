// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/toolstack_monitor.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

namespace fs = std::filesystem;

class ToolstackMonitorTest : public ::testing::Test {
 protected:
  ToolstackMonitorTest() : proc_(fs::path(::testing::TempDir()) / "proc") {
    fs::remove_all(proc_);
    fs::create_directories(proc_);
  }
  ~ToolstackMonitorTest() override { fs::remove_all(proc_); }

  void Process(const std::string& pid, const std::string& comm, const std::string& out) {
    fs::create_directories(proc_ / pid / "fd");
    std::ofstream(proc_ / pid / "comm") << comm << "\n";
    if (!out.empty()) fs::create_symlink(out, proc_ / pid / "fd" / "1");
  }
  std::vector<pid_t> Find(const std::string& guest) {
    return FindToolstackMonitors(guest, proc_.string());
  }

  const fs::path proc_;
};

TEST_F(ToolstackMonitorTest, IsKnownByItsLog) {
  Process("17", "xl", "/var/log/xen/xl-web1.log");
  Process("18", "xl", "/var/log/xen/xl-web11.log");
  Process("19", "xl", "/dev/pts/0");
  EXPECT_THAT(Find("web1"), ElementsAre(17));
  EXPECT_THAT(Find("web"), IsEmpty());
}

TEST_F(ToolstackMonitorTest, OfAPromotedCopyKeepsTheNameOfTheLog) {
  Process("17", "xl", "/var/log/xen/xl-web1--incoming.log");
  Process("18", "xl", "/var/log/xen/xl-web11--incoming.log");
  EXPECT_THAT(Find("web1"), ElementsAre(17));
}

TEST_F(ToolstackMonitorTest, OfAGuestThatCameByMigrationOrPromotionToo) {
  Process("17", "xl", "/var/log/xen/xl-web1--incoming.log");
  Process("18", "xl", "/var/log/xen/xl-web1--incoming.log.1");
  Process("19", "xl", "/var/log/xen/xl-web1.log.10");
  Process("20", "xl", "/var/log/xen/xl-web1-incoming.log");
  Process("21", "xl", "/var/log/xen/xl-web1.log.gz");
  Process("22", "xl", "/var/log/xen/xl-web1--incoming2.log");
  EXPECT_THAT(Find("web1"), UnorderedElementsAre(17, 18, 19));
}

TEST_F(ToolstackMonitorTest, OtherProgramsAreNone) {
  Process("17", "tail", "/var/log/xen/xl-web1.log");
  Process("18", "xlsomething", "/var/log/xen/xl-web1.log");
  Process("self", "xl", "/var/log/xen/xl-web1.log");
  EXPECT_THAT(Find("web1"), IsEmpty());
}

TEST_F(ToolstackMonitorTest, ProcessesThatEndMeanwhileAreSkipped) {
  Process("17", "xl", "");
  fs::create_directories(proc_ / "18");
  Process("19", "xl", "/var/log/xen/xl-web1.log");
  Process("20", "xl", "/var/log/xen/xl-web1.log");
  EXPECT_THAT(Find("web1"), UnorderedElementsAre(19, 20));
}

TEST_F(ToolstackMonitorTest, WithoutAListOfProcessesThereAreNone) {
  EXPECT_THAT(FindToolstackMonitors("web1", (proc_ / "missing").string()), IsEmpty());
}

}  // namespace
}  // namespace haven
