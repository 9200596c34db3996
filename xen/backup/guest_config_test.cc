// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/guest_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "xen/base/formats_testing.h"

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

TEST(GuestConfigTest, AGuestWithADeviceModelReadsFilesOfThisHost) {
  const Json listed = Json::parse(kListedHvmGuest)[0];
  const absl::StatusOr<GuestConfig> guest = MapGuestConfig(listed.dump(), {}, true);
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_EQ(guest->name, "g1");
  EXPECT_EQ(guest->WaitingName(), "g1--incoming");
  EXPECT_EQ(guest->kernel, "/guest/vmlinuz");
  EXPECT_EQ(guest->ramdisk, "/guest/initrd.gz");
  Json wanted = listed["config"];
  wanted["c_info"].erase("domid");
  EXPECT_EQ(Json::parse(guest->json), wanted);
  EXPECT_EQ(MapGuestConfig(kListed, {})->kernel, "");
}

TEST(GuestConfigTest, TypeAndDescriptionBelongTogether) {
  EXPECT_TRUE(absl::IsInvalidArgument(MapGuestConfig(kListed, {}, true).status()));
  Json hvm = Json::parse(kListedHvmGuest)[0]["config"];
  EXPECT_TRUE(absl::IsInvalidArgument(MapGuestConfig(hvm.dump(), {}, false).status()));
  // The toolstack would start a device model that nobody holds back.
  hvm["c_info"]["type"] = "pvh";
  EXPECT_TRUE(absl::IsInvalidArgument(MapGuestConfig(hvm.dump(), {}, false).status()));
  hvm["c_info"]["type"] = "hvm";
  hvm["b_info"]["type.pvh"] = Json::object();
  EXPECT_TRUE(absl::IsInvalidArgument(MapGuestConfig(hvm.dump(), {}, true).status()));
}

TEST(GuestConfigTest, ADeviceModelThatWouldDoMoreIsRefusedWithEveryReason) {
  Json hvm = Json::parse(kListedHvmGuest)[0]["config"];
  hvm["b_info"]["device_model"] = "/tmp/evil";
  hvm["b_info"]["extra_hvm"] = {"-incoming", "exec:evil"};
  const absl::Status refused = MapGuestConfig(hvm.dump(), {}, true).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("setting device_model "));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("setting extra_hvm "));
}

TEST(GuestConfigTest, AGuestWithoutADeviceModelIsJudgedAsWell) {
  Json pvh = Json::parse(kListed)["config"];
  pvh["disks"][0]["backend"] = "qdisk";
  EXPECT_TRUE(MapGuestConfig(pvh.dump(), {}).ok());
  pvh["b_info"]["extra"] = {"-incoming", "exec:evil"};
  const absl::Status refused = MapGuestConfig(pvh.dump(), {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("setting extra "));
}

// The toolstack reads names and texts to their first NUL.
TEST(GuestConfigTest, ControlCharactersAreRefusedOnEveryLevel) {
  for (const bool hvm : {false, true}) {
    const Json good = hvm ? Json::parse(kListedHvmGuest)[0] : Json::parse(kListed);
    ASSERT_TRUE(MapGuestConfig(good.dump(), {}, hvm).ok());
    for (const char* const place :
         {"", "/config", "/config/c_info", "/config/b_info", "/config/b_info/arch_x86",
          "/config/nics/0", "/config/nics/0/of_its_own/deep/0"}) {
      for (const char control : {'\0', '\n', '\x1f', '\x7f'}) {
        Json name = good;
        name[Json::json_pointer(place)][std::string("pcidevs") + control] = Json::array();
        Json text = good;
        text[Json::json_pointer(place)]["uuid"] = std::string("a") + control;
        Json element = good;
        element[Json::json_pointer(place)]["uuid"] = {1, {std::string(1, control) + "b"}};
        for (const Json& bad : {name, text, element}) {
          const absl::Status refused = MapGuestConfig(bad.dump(), {}, hvm).status();
          EXPECT_TRUE(absl::IsInvalidArgument(refused)) << bad.dump();
          EXPECT_THAT(std::string(refused.message()), HasSubstr("control character")) << bad.dump();
        }
      }
    }
  }
}

TEST(GuestConfigTest, TheOperatorsOwnNamesAreJudgedAsWell) {
  XenReplicaOptions options;
  options.name = "a,process=b";
  EXPECT_TRUE(absl::IsInvalidArgument(MapGuestConfig(kListed, options).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      MapGuestConfig(Json::parse(kListedHvmGuest)[0].dump(), options, true).status()));
}

TEST(GuestConfigTest, GuestsOfOtherTypesAreRefusedWithTheRemedy) {
  for (const char* const type : {"pv", "", "HVM"}) {
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
