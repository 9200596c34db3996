// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/nic_bridges.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

std::string Filled(const std::string& nics) {
  const std::string filled = WithBridges(absl::StrCat(R"({"nics":)", nics, "}"), [](uint64_t nic) {
    return nic < 7 ? absl::StrCat("xenbr", nic) : "";
  });
  return filled.substr(8, filled.size() - 9);
}

TEST(NicBridges, TheOneThatTheToolstackChoseIsNamed) {
  EXPECT_EQ(Filled(R"([{"devid":0},{"devid":3,"script":"/etc/xen/scripts/vif-bridge"}])"),
            R"([{"bridge":"xenbr0","devid":0},)"
            R"({"bridge":"xenbr3","devid":3,"script":"/etc/xen/scripts/vif-bridge"}])");
  EXPECT_EQ(Filled(R"([{"devid":1,"script":"vif-openvswitch"}])"),
            R"([{"bridge":"xenbr1","devid":1,"script":"vif-openvswitch"}])");
}

TEST(NicBridges, WhatIsNamedOrOnNoneStays) {
  for (const char* const nics :
       {R"([{"bridge":"br7","devid":0}])", R"([{"devid":0,"script":"vif-route"}])",
        R"([{"devid":8}])", R"([{}])", R"([{"devid":-1}])", R"([7,null,[]])", R"({})", "[]"}) {
    EXPECT_EQ(Filled(nics), nics);
  }
}

TEST(NicBridges, WhatIsNoConfigurationStays) {
  for (const char* const text : {"", "{", "7", "[]", R"({"nics":7})"}) {
    EXPECT_EQ(WithBridges(text, [](uint64_t) { return "x"; }), text);
  }
}

}  // namespace
}  // namespace haven
