// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/rarp.h"

#include <gtest/gtest.h>

#include <vector>

namespace haven {
namespace {

constexpr std::array<uint8_t, 6> kMac = {0x00, 0x16, 0x3e, 0x12, 0x34, 0x56};

TEST(RarpTest, TheFrameIsARequestForOnesOwnAddress) {
  const std::vector<int> wanted = {
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff,              // To everybody,
      0x00, 0x16, 0x3e, 0x12, 0x34, 0x56,              // from the guest.
      0x80, 0x35,                                      // RARP
      0x00, 0x01, 0x08, 0x00, 6,    4,                 // Ethernet and IPv4.
      0x00, 0x03,                                      // Request reverse.
      0x00, 0x16, 0x3e, 0x12, 0x34, 0x56, 0, 0, 0, 0,  //
      0x00, 0x16, 0x3e, 0x12, 0x34, 0x56, 0, 0, 0, 0,
  };
  const std::array<std::byte, kRarpFrameBytes> frame = MakeRarpFrame(kMac);
  ASSERT_EQ(wanted.size(), 42u);
  for (size_t i = 0; i < frame.size(); ++i) {
    EXPECT_EQ(std::to_integer<int>(frame[i]), i < wanted.size() ? wanted[i] : 0) << i;
  }
}

TEST(RarpTest, AnInterfaceThatIsNotThereIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(SendRarp("no-such-if", kMac)));
}

}  // namespace
}  // namespace haven
