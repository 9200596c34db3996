// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/unix_address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "engine/base/fd.h"

namespace haven {
namespace {

TEST(ShmAddress, ParsesAPath) {
  const auto address = ShmAddress::Parse("unix:/run/haven/b.sock");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_FALSE(address->abstract());
  EXPECT_EQ(address->path(), "/run/haven/b.sock");
  EXPECT_EQ(address->directory(), "/run/haven");
  EXPECT_EQ(address->text(), "unix:/run/haven/b.sock");
  EXPECT_EQ(ShmAddress::Parse("unix:/b")->directory(), "/");
}

TEST(ShmAddress, ParsesAnAbstractName) {
  const auto address = ShmAddress::Parse("unix:@b");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(address->abstract());
  EXPECT_EQ(address->path(), "");
  // The name has no terminating NUL, which would be part of it.
  EXPECT_EQ(address->raw_bytes(), offsetof(sockaddr_un, sun_path) + 2);
}

TEST(ShmAddress, TakesTheLongestNameAndNoLonger) {
  const std::string longest = "unix:/" + std::string(106, 'x');
  const auto address = ShmAddress::Parse(longest);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->path(), longest.substr(5));
  EXPECT_EQ(ShmAddress::Parse(longest + "x").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ShmAddress, RefusesEverythingElse) {
  for (const absl::string_view bad : {"", "unix:", "unix:/", "unix:@", "unix:relative",
                                      "/run/b.sock", "tcp:127.0.0.1:1", "unix:unix:/b"}) {
    EXPECT_EQ(ShmAddress::Parse(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(ShmAddress::Parse(absl::string_view("unix:/a\0b", 9)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ShmAddress, NamesASocket) {
  const auto address = ShmAddress::Parse("unix:@haven-unix-address-test");
  const UniqueFd bound(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(ShmAddress::OfSocket(bound.get()), "unix:");
  ASSERT_EQ(bind(bound.get(), address->raw(), address->raw_bytes()), 0);
  EXPECT_EQ(ShmAddress::OfSocket(bound.get()), address->text());

  const UniqueFd internet(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(ShmAddress::OfSocket(internet.get()), "unix:");
  EXPECT_EQ(ShmAddress::OfSocket(-1), "unix:");
}

}  // namespace
}  // namespace haven
