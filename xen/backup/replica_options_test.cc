// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/replica_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ReplicaOptionsTest, NothingIsDifferentWithoutWords) {
  const absl::StatusOr<XenReplicaOptions> options = ParseXenReplicaOptions("");
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->name, "");
  EXPECT_TRUE(options->bridges.empty());
  EXPECT_TRUE(options->disks.empty());
}

TEST(ReplicaOptionsTest, TakesEachKindOfWord) {
  const absl::StatusOr<XenReplicaOptions> options = ParseXenReplicaOptions(
      "name=b,bridge:xenbr0=br0,disk:/dev/vg/a=/dev/disk/by-id/x=y,bridge:xenbr1=br1");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->name, "b");
  EXPECT_THAT(options->bridges, ElementsAre(Pair("xenbr0", "br0"), Pair("xenbr1", "br1")));
  EXPECT_THAT(options->disks, ElementsAre(Pair("/dev/vg/a", "/dev/disk/by-id/x=y")));
}

TEST(ReplicaOptionsTest, OtherWordsAreNamed) {
  for (const char* const words :
       {"x", "name=", "=a", "name=a,name=b", "bridge:a", "bridge:=b",
        "bridge:a=", "disk:a=", "bridge:a=b,bridge:a=c", "colour=red", "name=a,", ","}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseXenReplicaOptions(words).status())) << words;
  }
  EXPECT_THAT(std::string(ParseXenReplicaOptions("name=a,colour=red").status().message()),
              HasSubstr("\"colour=red\""));
}

}  // namespace
}  // namespace haven
