// SPDX-License-Identifier: Apache-2.0
//
// What can be had without an RDMA device: addresses, options, channels, and being told that there
// is no device. The rest is verbs_check's, between two hosts.
#include "transport/verbs/verbs_transport.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <thread>

#include "transport/tls/channel_testing.h"
#include "transport/verbs/cm_connect.h"
#include "transport/verbs/verbs_address.h"

namespace haven {
namespace {

std::unique_ptr<Transport> MakeOrDie(const CredentialOptions& credentials = Insecure()) {
  VerbsTransportOptions options;
  options.credentials = credentials;
  auto transport = MakeVerbsTransport(options);
  HAVEN_CHECK_OK(transport);
  return *std::move(transport);
}

TEST(VerbsAddress, FormsThatAreUnderstood) {
  absl::StatusOr<VerbsAddress> address = ParseVerbsAddress("rdma:host-b:7000");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->host_and_port, "host-b:7000");
  EXPECT_TRUE(address->device.empty() && address->rail.empty());
  address = ParseVerbsAddress("rdma:[fd00::2]:7000,rail=10.1.0.2,dev=mlx5_0");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->host_and_port, "[fd00::2]:7000");
  EXPECT_EQ(address->device, "mlx5_0");
  EXPECT_EQ(address->rail, "10.1.0.2");
}

TEST(VerbsAddress, FormsThatAreNot) {
  for (const char* text :
       {"", "unix:/x", "rdma:", "rdma:host", "rdma:h:1,", "rdma:h:1,dev=", "rdma:h:1,port=3",
        "rdma:h:1,dev=a,dev=b", "rdma:h:1,rail=somewhere", "RDMA:h:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseVerbsAddress(text).status())) << text;
  }
  EXPECT_TRUE(IsVerbsAddress("rdma:x"));
  EXPECT_FALSE(IsVerbsAddress("unix:x"));
}

TEST(VerbsOptions, EndlessRetriesAreRefused) {
  VerbsTransportOptions options;
  EXPECT_TRUE(CheckVerbsOptions(options).ok());
  options.endpoint.pair.retry_count = 7;
  EXPECT_TRUE(absl::IsInvalidArgument(CheckVerbsOptions(options)));
  options = {};
  options.endpoint.pair.rnr_retry_count = 7;
  EXPECT_TRUE(absl::IsInvalidArgument(CheckVerbsOptions(options)));
}

TEST(VerbsOptions, TimersBeyondTheirRangeAreRefused) {
  for (const uint8_t code : {uint8_t{0}, uint8_t{32}}) {
    VerbsTransportOptions options;
    options.endpoint.pair.ack_timeout = code;
    EXPECT_FALSE(CheckVerbsOptions(options).ok());
    options = {};
    options.endpoint.pair.rnr_timer = code;
    EXPECT_FALSE(CheckVerbsOptions(options).ok());
  }
  VerbsTransportOptions options;
  options.endpoint.link.request_timeout_ns = 0;
  EXPECT_FALSE(CheckVerbsOptions(options).ok());
  options = {};
  options.rail = "not-an-address";
  EXPECT_FALSE(CheckVerbsOptions(options).ok());
}

// A channel between two transports of this process.
class VerbsTransportTest : public ::testing::Test {
 protected:
  void Connect() {
    auto listener = backup_->Listen("rdma:127.0.0.1:0");
    ASSERT_TRUE(listener.ok()) << listener.status();
    std::thread adopting([&] {
      HAVEN_CHECK(*WaitForFd((*listener)->fd(), POLLIN, NetDeadline(kTestTimeout)));
      const auto fd = (*listener)->Accept();
      HAVEN_CHECK(fd.ok() && fd->has_value());
      auto channel = backup_->Adopt(**fd, kTestTimeout);
      HAVEN_CHECK_OK(channel);
      at_backup_ = *std::move(channel);
    });
    auto channel = primary_->Connect((*listener)->address(), kTestTimeout);
    adopting.join();
    ASSERT_TRUE(channel.ok()) << channel.status();
    at_primary_ = *std::move(channel);
  }

  std::unique_ptr<Transport> primary_ = MakeOrDie();
  std::unique_ptr<Transport> backup_ = MakeOrDie();
  std::unique_ptr<ControlChannel> at_primary_;
  std::unique_ptr<ControlChannel> at_backup_;
};

TEST_F(VerbsTransportTest, MessagesGoThroughTheChannel) {
  Connect();
  ASSERT_TRUE(at_primary_->Send(Bytes(10, 1), kTestTimeout).ok());
  EXPECT_EQ(*Wait(*at_backup_), Bytes(10, 1));
}

TEST_F(VerbsTransportTest, ASessionsDoorIsWhereItsPrimaryCameIn) {
  EXPECT_TRUE(absl::IsInvalidArgument(backup_->Listen("").status())) << "nobody has come in yet";
  Connect();
  const auto door = backup_->Listen("");
  ASSERT_TRUE(door.ok()) << door.status();
  EXPECT_TRUE((*door)->address().starts_with("rdma:127.0.0.1:")) << (*door)->address();
}

TEST_F(VerbsTransportTest, WithoutADeviceAnEndpointIsRefusedWithTheReason) {
  Connect();
  const absl::Status status = backup_->MakeEndpoint(*at_backup_).status();
  EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsNotFound(status)) << status;
  EXPECT_NE(status.message().find("rdma"), absl::string_view::npos) << status;
}

TEST(VerbsTransport, ACertificateThatWillExpireIsWarnedOfUntilThereIsANewOne) {
  KeyFolder keys;
  const CredentialOptions soon = keys.Node("n", {.ends = absl::Hours(1)});
  EXPECT_NE(MakeOrDie(soon)->Warning().find("n.crt will expire"), std::string::npos);
  const std::unique_ptr<Transport> transport = MakeOrDie(soon);
  std::filesystem::remove(soon.certificate_file);
  std::filesystem::remove(soon.key_file);
  keys.Node("n");
  EXPECT_EQ(transport->Warning(), "");
}

TEST(Rejection, WhatAnAnswerToAConnectionRequestMeans) {
  const auto token = EncodeJoinRefusal(JoinRefusal::kToken);
  const auto internal = EncodeJoinRefusal(JoinRefusal::kInternal);
  EXPECT_TRUE(absl::IsPermissionDenied(RejectedError(28, token, "x")));
  EXPECT_TRUE(absl::IsUnavailable(RejectedError(28, internal, "x")));
  EXPECT_TRUE(absl::IsUnavailable(RejectedError(28, {}, "x")));
  EXPECT_TRUE(absl::IsUnavailable(RejectedError(8, token, "x"))) << "nobody listens";
  EXPECT_TRUE(absl::IsUnavailable(RejectedError(-110, {}, "x")));
}

}  // namespace
}  // namespace haven
