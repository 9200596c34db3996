// SPDX-License-Identifier: Apache-2.0
#include "xen/output/vif_names.h"

#include <filesystem>

#include "gtest/gtest.h"

namespace haven {
namespace {

namespace fs = std::filesystem;

TEST(VifNames, NamesOfADomainsNics) {
  EXPECT_TRUE(HasVifName("vif7.0", 7));
  EXPECT_TRUE(HasVifName("vif7.12", 7));
  EXPECT_TRUE(HasVifName("vif7.0-emu", 7));
  EXPECT_TRUE(HasVifName("vif4294967295.0", 4294967295u));
  EXPECT_TRUE(IsVifOfDomain("vif7.0", 7, "/nowhere"));
}

TEST(VifNames, ANicWithAnotherNameIsKnownByItsBackEnd) {
  const fs::path devices = fs::path(::testing::TempDir()) / "devices";
  fs::remove_all(devices);
  for (const char* name : {"web", "web-emu", "eth0"}) fs::create_directories(devices / name);
  fs::create_symlink("../../../vif-7-0", devices / "web" / "device");
  fs::create_symlink("../../../0000:00:02.0", devices / "eth0" / "device");
  EXPECT_TRUE(IsVifOfDomain("web", 7, devices.string()));
  EXPECT_FALSE(IsVifOfDomain("web", 70, devices.string()));
  EXPECT_FALSE(IsVifOfDomain("eth0", 7, devices.string()));
  EXPECT_FALSE(IsVifOfDomain("web-emu", 7, devices.string()));
  EXPECT_FALSE(IsVifOfDomain("missing", 7, devices.string()));
}

TEST(VifNames, OtherNames) {
  for (const char* name : {"", "vif", "vif7", "vif7.", "vif70.0", "vif17.0", "xvif7.0", "vif7.0x",
                           "vif7.-emu", "vif7.0-emu-emu", "vif7.0.1", "VIF7.0", "tap7.0"}) {
    EXPECT_FALSE(HasVifName(name, 7)) << name;
  }
}

TEST(VifNames, ThisHostHasNoNicsOfADomainThatDoesNotExist) {
  const auto names = FindVifs(4294967290u);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_TRUE(names->empty());
}

}  // namespace
}  // namespace haven
