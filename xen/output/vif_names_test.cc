// SPDX-License-Identifier: Apache-2.0
#include "xen/output/vif_names.h"

#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(VifNames, NamesOfADomainsNics) {
  EXPECT_TRUE(IsVifOfDomain("vif7.0", 7));
  EXPECT_TRUE(IsVifOfDomain("vif7.12", 7));
  EXPECT_TRUE(IsVifOfDomain("vif7.0-emu", 7));
  EXPECT_TRUE(IsVifOfDomain("vif4294967295.0", 4294967295u));
}

TEST(VifNames, OtherNames) {
  for (const char* name : {"", "vif", "vif7", "vif7.", "vif70.0", "vif17.0", "xvif7.0", "vif7.0x",
                           "vif7.-emu", "vif7.0-emu-emu", "vif7.0.1", "VIF7.0", "tap7.0"}) {
    EXPECT_FALSE(IsVifOfDomain(name, 7)) << name;
  }
}

TEST(VifNames, ThisHostHasNoNicsOfADomainThatDoesNotExist) {
  const auto names = FindVifs(4294967290u);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_TRUE(names->empty());
}

}  // namespace
}  // namespace haven
