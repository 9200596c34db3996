// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device_addresses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A tree as the kernel shows it in /sys.
class DeviceAddressesTest : public ::testing::Test {
 protected:
  DeviceAddressesTest() : sysfs_(absl::StrCat(::testing::TempDir(), "/sys")) {
    std::filesystem::remove_all(sysfs_);
    std::filesystem::create_directories(sysfs_);
  }
  ~DeviceAddressesTest() override { std::filesystem::remove_all(sysfs_); }

  void Write(const std::string& path, const std::string& line) const {
    const std::filesystem::path file = std::filesystem::path(sysfs_) / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << line << "\n";
  }

  static InterfaceAddress On(const std::string& interface, const std::string& host) {
    return {interface, *InetAddress::ParseHost(host)};
  }

  std::vector<std::string> Find(const std::vector<InterfaceAddress>& addresses) const {
    std::vector<std::string> found;
    for (const DeviceAddress& one : FindDeviceAddresses(sysfs_, addresses)) {
      found.push_back(absl::StrCat(one.device, " ", one.address.Host()));
    }
    return found;
  }

  const std::string sysfs_;
};

TEST_F(DeviceAddressesTest, AnEthernetPortOwnsTheAddressesOfItsInterface) {
  Write("class/infiniband/rxe0/ports/1/gid_attrs/ndevs/0", "eth0");
  Write("class/infiniband/rxe0/ports/1/gid_attrs/ndevs/1", "eth0");
  Write("class/infiniband/rxe1/ports/1/gid_attrs/ndevs/0", "eth1");
  EXPECT_THAT(Find({On("eth1", "10.0.1.1"), On("eth0", "10.0.0.1"), On("eth0", "fd00::1"),
                    On("eth2", "10.0.2.1")}),
              ElementsAre("rxe0 10.0.0.1", "rxe0 fd00::1", "rxe1 10.0.1.1"));
}

TEST_F(DeviceAddressesTest, ASecondPortCountsToo) {
  Write("class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/0", "eth0");
  Write("class/infiniband/mlx5_0/ports/2/gid_attrs/ndevs/0", "eth1");
  EXPECT_THAT(Find({On("eth1", "10.0.1.1")}), ElementsAre("mlx5_0 10.0.1.1"));
}

TEST_F(DeviceAddressesTest, AnInfinibandInterfaceIsFoundByItsGid) {
  Write("class/infiniband/mlx4_0/ports/1/gids/0", "fe80:0000:0000:0000:0002:c903:0000:1491");
  Write("class/infiniband/mlx4_0/ports/1/gids/1", "0000:0000:0000:0000:0000:0000:0000:0000");
  Write("class/net/ib0/address", "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:14:91");
  Write("class/net/ib1/address", "80:00:02:09:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:14:92");
  Write("class/net/eth0/address", "52:54:00:12:34:56");
  EXPECT_THAT(Find({On("ib0", "10.0.0.1"), On("ib1", "10.0.1.1"), On("eth0", "10.0.2.1")}),
              ElementsAre("mlx4_0 10.0.0.1"));
}

TEST_F(DeviceAddressesTest, AHostWithoutDevicesHasNone) {
  EXPECT_THAT(Find({On("eth0", "10.0.0.1")}), IsEmpty());
}

TEST_F(DeviceAddressesTest, AnUnknownDeviceIsToldWithThoseThereAre) {
  const absl::Status status =
      AddressOfDevice("no_such_device", *InetAddress::ParseHost("10.0.0.1")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no_such_device"));
}

}  // namespace
}  // namespace haven
