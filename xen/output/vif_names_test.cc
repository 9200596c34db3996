// SPDX-License-Identifier: Apache-2.0
#include "xen/output/vif_names.h"

#include <utility>

#include "engine/base/clock.h"
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

LinkAnswer Device(const std::string& name, const std::string& back_end) {
  LinkAnswer link;
  link.name = name;
  link.back_end = back_end;
  return link;
}

TEST(VifNames, ANicIsKnownByItsBackEndWhateverItIsCalled) {
  const std::vector<uint32_t> domains = {3, 7};
  EXPECT_TRUE(IsNicOf(Device("web-lan", "vif-7-0"), domains));
  EXPECT_TRUE(IsNicOf(Device("web-lan", "vif-3-12"), domains));
  EXPECT_TRUE(IsNicOf(Device("vif7.0-emu", ""), domains));
  for (const char* back_end : {"", "vif-70-0", "vif-7-", "vif-7", "vif-7-0x", "vbd-7-0", "7-0"}) {
    EXPECT_FALSE(IsNicOf(Device("web-lan", back_end), domains)) << back_end;
  }
  EXPECT_FALSE(IsNicOf(Device("web-lan", "vif-7-0"), {}));
}

TEST(VifNames, ThisHostHasNoNicsOfADomainThatDoesNotExist) {
  auto socket = OpenNetlinkRequests();
  ASSERT_TRUE(socket.ok()) << socket.status();
  NetlinkChannel channel(*std::move(socket), SystemClock::Get(), kNsPerSecond);
  const std::vector<uint32_t> domains = {4294967290u};
  const auto names = FindNics(channel, domains);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_TRUE(names->empty());
}

}  // namespace
}  // namespace haven
