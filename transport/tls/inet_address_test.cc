// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/inet_address.h"

#include <gtest/gtest.h>

#include "transport/tls/tcp_listener.h"

namespace haven {
namespace {

TEST(InetAddress, FormsThatAreUnderstood) {
  EXPECT_EQ(InetAddress::Resolve("10.0.0.2:7000")->ToString(), "10.0.0.2:7000");
  EXPECT_EQ(InetAddress::Resolve("[fd00::2]:7000")->ToString(), "[fd00::2]:7000");
  EXPECT_EQ(InetAddress::Resolve("localhost:1")->port(), 1);
  EXPECT_EQ(InetAddress::ParseHost("fd00::2")->Host(), "fd00::2");
}

TEST(InetAddress, FormsThatAreNot) {
  for (const char* text : {"", "10.0.0.2", ":7000", "10.0.0.2:", "10.0.0.2:65536", "10.0.0.2:-1",
                           "10.0.0.2:x", "fd00::2:7000"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(InetAddress::Resolve(text).status())) << text;
  }
  for (const char* text : {"", "localhost", "10.0.0", "10.0.0.2:1"}) {
    EXPECT_FALSE(InetAddress::ParseHost(text).ok()) << text;
  }
}

TEST(InetAddress, RawBytesComeBack) {
  for (const char* text : {"10.0.0.2", "fd00::2"}) {
    const InetAddress address = InetAddress::ParseHost(text)->WithPort(9);
    const InetAddress back = InetAddress::FromRaw(address.family(), address.raw(), 9);
    EXPECT_EQ(back.ToString(), address.ToString());
    EXPECT_TRUE(back.SameHost(address.WithPort(1)));
  }
}

TEST(TcpListener, AnEphemeralPortIsTold) {
  const auto listener = TcpListener::Listen(*InetAddress::Resolve("127.0.0.1:0"), "rdma:");
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_GT((*listener)->bound().port(), 0);
  EXPECT_EQ((*listener)->address(), "rdma:" + (*listener)->bound().ToString());
  EXPECT_EQ(*(*listener)->Accept(), std::nullopt);
}

TEST(TcpListener, AnAddressInUseAndOneOfAnotherHost) {
  const auto first = TcpListener::Listen(*InetAddress::Resolve("127.0.0.1:0"), "");
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(TcpListener::Listen((*first)->bound(), "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      TcpListener::Listen(*InetAddress::Resolve("192.0.2.1:0"), "").status()));
}

}  // namespace
}  // namespace haven
