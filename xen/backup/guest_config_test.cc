// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/guest_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// What `xl list -l` prints for a guest, shortened.
constexpr char kListed[] = R"({
  "domid": 3,
  "config": {
    "c_info": {"type": "pvh", "name": "web1", "uuid": "cb1ae9c3-8bd5-4d4b-a5d5-1a9c9a4b2a33",
               "domid": 3, "run_hotplug_scripts": "True"},
    "b_info": {"max_vcpus": 2, "max_memkb": 131072},
    "disks": [{"pdev_path": "/dev/vg/web1", "vdev": "xvda", "readwrite": 0}],
    "nics": [{"devid": 0, "mac": "00:16:3e:12:34:56", "bridge": "xenbr0"},
             {"devid": 1, "mac": "00:16:3E:ab:cd:ef"}],
    "on_reboot": "restart"
  }
})";

TEST(GuestConfigTest, TheCopyIsLikeTheOriginalWithoutOptions) {
  const absl::StatusOr<GuestConfig> guest = MapGuestConfig(kListed, {});
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_EQ(guest->name, "web1");
  Json wanted = Json::parse(kListed)["config"];
  wanted["c_info"].erase("domid");
  EXPECT_EQ(Json::parse(guest->json), wanted);
  ASSERT_EQ(guest->nics.size(), 2u);
  EXPECT_THAT(guest->nics[0].mac, ElementsAre(0x00, 0x16, 0x3e, 0x12, 0x34, 0x56));
  EXPECT_EQ(guest->nics[0].bridge, "xenbr0");
  EXPECT_THAT(guest->nics[1].mac, ElementsAre(0x00, 0x16, 0x3e, 0xab, 0xcd, 0xef));
  EXPECT_EQ(guest->nics[1].bridge, "");
}

TEST(GuestConfigTest, TakesTheInnerObjectAlone) {
  const std::string inner = Json::parse(kListed)["config"].dump();
  ASSERT_TRUE(MapGuestConfig(inner, {}).ok());
  EXPECT_EQ(MapGuestConfig(inner, {})->json, MapGuestConfig(kListed, {})->json);
}

TEST(GuestConfigTest, NameBridgesAndDisksAreThoseOfThisHost) {
  XenReplicaOptions options;
  options.name = "web1-b";
  options.bridges = {{"xenbr0", "br7"}, {"other", "br8"}};
  options.disks = {{"/dev/vg/web1", "/dev/b/web1"}};
  const absl::StatusOr<GuestConfig> guest = MapGuestConfig(kListed, options);
  ASSERT_TRUE(guest.ok()) << guest.status();
  const Json json = Json::parse(guest->json);
  EXPECT_EQ(guest->name, "web1-b");
  EXPECT_EQ(json["c_info"]["name"], "web1-b");
  EXPECT_EQ(json["nics"][0]["bridge"], "br7");
  EXPECT_EQ(guest->nics[0].bridge, "br7");
  EXPECT_FALSE(json["nics"][1].contains("bridge"));
  EXPECT_EQ(json["disks"][0]["pdev_path"], "/dev/b/web1");
}

TEST(GuestConfigTest, GuestsWithADeviceModelAreRefusedWithTheRemedy) {
  for (const char* const type : {"hvm", "pv", ""}) {
    Json config = Json::parse(kListed)["config"];
    config["c_info"]["type"] = type;
    const absl::Status refused = MapGuestConfig(config.dump(), {}).status();
    EXPECT_TRUE(absl::IsUnimplemented(refused)) << type;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("type=\"pvh\""));
  }
}

TEST(GuestConfigTest, WhatIsNoConfigurationIsRefused) {
  for (const char* const text :
       {"",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        R"({"config":7})",
        R"({"config":{}})",
        R"({"c_info":[]})",
        R"({"c_info":{"type":"pvh"}})",
        R"({"c_info":{"type":"pvh","name":""}})",
        R"({"c_info":{"type":"pvh","name":"a/b"}})",
        R"({"c_info":{"type":"pvh","name":"a b"}})",
        R"({"c_info":{"type":"pvh","name":"a\n"}})",
        R"({"c_info":{"type":"pvh","name":7}})",
        R"({"c_info":{"type":"pvh","name":"a"},"nics":{}})",
        R"({"c_info":{"type":"pvh","name":"a"},"nics":[7]})",
        R"({"c_info":{"type":"pvh","name":"a"},"nics":[{}]})",
        R"({"c_info":{"type":"pvh","name":"a"},"nics":[{"mac":"00:16:3e:12:34"}]})",
        R"({"c_info":{"type":"pvh","name":"a"},"nics":[{"mac":"00:16:3e:12:34:5g"}]})",
        R"({"c_info":{"type":"pvh","name":"a"},"nics":[{"mac":"ff:ff:ff:ff:ff:ff"}]})",
        R"({"c_info":{"type":"pvh","name":"a"},"disks":7})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(MapGuestConfig(text, {}).status())) << text;
  }
  const std::string long_name(128, 'a');
  EXPECT_FALSE(MapGuestConfig(R"({"c_info":{"type":"pvh","name":")" + long_name + "\"}}", {}).ok());
}

TEST(GuestConfigTest, DeepNestingIsRefused) {
  const std::string deep(100000, '[');
  EXPECT_FALSE(MapGuestConfig(deep, {}).ok());
  EXPECT_THAT(std::string(MapGuestConfig(R"({"c_info":{"type":"pvh","name":"a","x":)" +
                                             std::string(40, '[') + std::string(40, ']') + "}}",
                                         {})
                              .status()
                              .message()),
              HasSubstr("levels deep"));
}

}  // namespace
}  // namespace haven
