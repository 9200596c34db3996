// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_factory.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

TEST(ArbiterFactoryTest, MakesEveryKind) {
  const std::pair<std::string, std::string> cases[] = {
      {"file:/shared/haven", "file:/shared/haven"},
      {"exec:/usr/lib/haven/arbiter", "exec:/usr/lib/haven/arbiter"},
      {"manual:/shared/a:b", "manual:/shared/a:b"},
      {"etcd:127.0.0.1:2379", "etcd:127.0.0.1:2379"},
      {"etcd:a.example:1,[::1]:65535,b:2,ca=/c.pem,cert=/d.pem,key=/e.pem",
       "etcd:a.example:1,[::1]:65535,b:2"},
  };
  for (const auto& [spec, description] : cases) {
    const absl::StatusOr<std::unique_ptr<Arbiter>> arbiter = MakeArbiter(spec);
    ASSERT_TRUE(arbiter.ok()) << arbiter.status();
    EXPECT_EQ((*arbiter)->Describe(), description);
  }
}

TEST(ArbiterFactoryTest, WrongSpecificationsAreExplained) {
  std::string many = "etcd:a:1";
  for (int i = 0; i < 16; ++i) absl::StrAppend(&many, ",a:1");
  const std::pair<std::string, std::string> cases[] = {
      {"", "unknown kind ''"},
      {"file", "'' is not an absolute path"},
      {"file:", "'' is not an absolute path"},
      {"file:shared", "'shared' is not an absolute path"},
      {std::string("file:/a\0b", 9), "is not an absolute path"},
      {"exec:./program", "'./program' is not an absolute path"},
      {"manual:dir", "'dir' is not an absolute path"},
      {"File:/x", "unknown kind 'File'"},
      {"zookeeper:a:1", "unknown kind 'zookeeper'"},
      {"/shared", "unknown kind '/shared'"},
      {"etcd:", "endpoint '' is not HOST:PORT"},
      {"etcd:host", "endpoint 'host' is not HOST:PORT"},
      {"etcd::2379", "endpoint ':2379' has no host"},
      {"etcd:host:", "has no port from 1 to 65535"},
      {"etcd:host:0", "has no port"},
      {"etcd:host:65536", "has no port"},
      {"etcd:host:02379", "has no port"},
      {"etcd:host:+1", "has no port"},
      {"etcd:host:2379,", "endpoint '' is not"},
      {"etcd:http://host:2379", "wrong character"},
      {"etcd:user@host:2379", "wrong character"},
      {"etcd:::1:2379", "wrong character"},
      {"etcd:[]:2379", "has no host"},
      {"etcd:host/x:2379", "wrong character"},
      {"etcd:ca=/c", "no endpoint is named"},
      {"etcd:a:1,ca=c.pem", "'c.pem' is not an absolute path"},
      {"etcd:a:1,ca=/c,ca=/c", "option ca is repeated"},
      {"etcd:a:1,cert=/c", "cert and key go together"},
      {"etcd:a:1,key=/c", "cert and key go together"},
      {"etcd:a:1,password=x", "unknown option 'password'"},
      {many, "more than 16 endpoints"},
  };
  for (const auto& [spec, error] : cases) {
    const absl::Status status = MakeArbiter(spec).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << spec << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error)) << spec;
    EXPECT_THAT(std::string(status.message()), HasSubstr("the forms are etcd:HOST:PORT"));
  }
}

}  // namespace
}  // namespace haven
