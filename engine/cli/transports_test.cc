// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/transports.h"

#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(AddressFromHereTest, TakesDeviceAndRailOfThisHost) {
  EXPECT_EQ(AddressFromHere("rdma:10.0.0.1:7000,dev=mlx5_7,rail=10.1.0.1",
                            "rdma:10.0.0.2:7000,dev=mlx5_0,rail=10.1.0.2"),
            "rdma:10.0.0.1:7000,dev=mlx5_0,rail=10.1.0.2");
}

TEST(AddressFromHereTest, LeavesOutWhatThisHostHasNot) {
  EXPECT_EQ(AddressFromHere("rdma:10.0.0.1:7000,dev=mlx5_7,rail=10.1.0.1", "rdma:10.0.0.2:7000"),
            "rdma:10.0.0.1:7000");
}

TEST(AddressFromHereTest, KeepsAddressesOfOtherKinds) {
  EXPECT_EQ(AddressFromHere("unix:/a", "unix:/b"), "unix:/a");
  EXPECT_EQ(AddressFromHere("unix:/a", "rdma:10.0.0.2:7000,dev=mlx5_0"), "unix:/a");
  EXPECT_EQ(AddressFromHere("", "rdma:10.0.0.2:7000"), "");
}

TEST(CheckAddressTest, NamesTheOptionAndTheForms) {
  EXPECT_TRUE(CheckAddress("--listen", "unix:/run/b.sock").ok());
  EXPECT_TRUE(CheckAddress("--listen", "rdma:10.0.0.1:7000,rail=10.1.0.1").ok());
  for (const char* bad : {"", "tcp:1", "unix:run/b", "unix:/a\nb", "rdma:10.0.0.1", "rdma:h:1,x=2",
                          "rdma:h:1,dev=", "rdma:h:1,rail=a,rail=b"}) {
    const absl::Status status = CheckAddress("--listen", bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(status.message().find("--listen"), absl::string_view::npos) << status;
  }
}

}  // namespace
}  // namespace haven
