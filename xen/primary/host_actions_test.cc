// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/host_actions.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "engine/base/short_folder_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// A host's files.
class HostActionsTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  const ShortFolder folder_;
  const std::string root_ = folder_.path();
};

constexpr char kSaves[] = "XENDOMAINS_SAVE=/var/lib/xen/save\nXENDOMAINS_RESTORE=true\n";

TEST_F(HostActionsTest, AGuestThatIsStartedAtBoot) {
  EXPECT_EQ(AutostartFile(root_, "g1"), "");
  Write("/etc/xen/auto/other.cfg", "name=\"g11\"");
  EXPECT_EQ(AutostartFile(root_, "g1"), "");
  Write("/etc/xen/auto/web.cfg", "name=\"g1\"");
  EXPECT_THAT(AutostartFile(root_, "g1"), EndsWith("/etc/xen/auto/web.cfg"));
}

TEST_F(HostActionsTest, OnlyAnEnabledServiceSavesGuests) {
  Write("/etc/default/xendomains", kSaves);
  EXPECT_EQ(ShutdownSetting(root_), "");
  Write("/etc/rc2.d/K01xendomains", "");
  EXPECT_EQ(ShutdownSetting(root_), "");
  Write("/etc/rc3.d/S03xendomains", "");
  EXPECT_THAT(ShutdownSetting(root_), StartsWith("XENDOMAINS_SAVE=/var/lib/xen/save in "));
  EXPECT_THAT(ShutdownSetting(root_), EndsWith("/etc/default/xendomains"));
}

TEST_F(HostActionsTest, AsSystemdEnablesIt) {
  Write("/etc/sysconfig/xendomains", kSaves);
  Write("/etc/systemd/system/multi-user.target.wants/xendomains.service", "");
  EXPECT_THAT(ShutdownSetting(root_), EndsWith("/etc/sysconfig/xendomains"));
}

TEST_F(HostActionsTest, EachIsAReasonWithItsRemedy) {
  EXPECT_THAT(ReasonsAgainstHost(root_, "g1"), IsEmpty());
  Write("/etc/xen/auto/web.cfg", "name=\"g1\"");
  Write("/etc/default/xendomains", kSaves);
  Write("/etc/rc3.d/S03xendomains", "");
  EXPECT_THAT(ReasonsAgainstHost(root_, "g1"),
              ElementsAre(HasSubstr("remove that file"), HasSubstr("disable xendomains")));
  EXPECT_THAT(ReasonsAgainstHost(root_, "g2"), ElementsAre(HasSubstr("disable xendomains")));
}

TEST(XendomainsSetting, WhatItsScriptDoes) {
  EXPECT_EQ(XendomainsSetting(""), "");
  EXPECT_EQ(XendomainsSetting("XENDOMAINS_SAVE=\nXENDOMAINS_RESTORE=true\n"), "");
  EXPECT_EQ(XendomainsSetting("XENDOMAINS_SAVE=\"\"\nXENDOMAINS_RESTORE=true\n"), "");
  EXPECT_EQ(XendomainsSetting("XENDOMAINS_SAVE=/s\nXENDOMAINS_RESTORE=\n"), "")
      << "saved, and not started again";
  EXPECT_EQ(XendomainsSetting("XENDOMAINS_SAVE=/s # here\nXENDOMAINS_RESTORE=false\n"),
            "XENDOMAINS_SAVE=/s");
  EXPECT_EQ(XendomainsSetting("XENDOMAINS_SAVE=/s\nXENDOMAINS_RESTORE=true\nXENDOMAINS_SAVE=\n"),
            "")
      << "the last word counts";
  EXPECT_EQ(XendomainsSetting("#XENDOMAINS_MIGRATE=b\n"), "");
  EXPECT_EQ(XendomainsSetting("  XENDOMAINS_MIGRATE=\"b --live\"\n"),
            "XENDOMAINS_MIGRATE=b --live");
  EXPECT_EQ(XendomainsSetting("XENDOMAINS_MIGRATE='b"), "XENDOMAINS_MIGRATE=b");
}

TEST(XlConfigNames, FindsTheNameAsXlDoes) {
  EXPECT_TRUE(XlConfigNames("type=\"pvh\"\nname=\"g1\"\n", "g1"));
  EXPECT_TRUE(XlConfigNames("  name = 'g1' # its name", "g1"));
  EXPECT_FALSE(XlConfigNames("name=\"g11\"", "g1"));
  EXPECT_FALSE(XlConfigNames("#name=\"g1\"", "g1"));
  EXPECT_FALSE(XlConfigNames("namespace=\"g1\"", "g1"));
  EXPECT_FALSE(XlConfigNames("name=\"g1", "g1"));
  EXPECT_FALSE(XlConfigNames("name=", "g1"));
  EXPECT_FALSE(XlConfigNames("", "g1"));
}

}  // namespace
}  // namespace haven
