// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/refusals.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

XenGuestFacts Good() {
  XenGuestFacts facts;
  facts.name = "g1";
  facts.status.hvm = facts.status.hap = true;
  facts.suspends = true;
  facts.config_json = R"({"c_info":{"type":"pvh"},"b_info":{"max_vcpus":2},
                          "nics":[{"devid":0,"bridge":"xenbr0"}],
                          "disks":[{"vdev":"xvda","readwrite":0}]})";
  facts.target_kib = facts.static_max_kib = 131072;
  return facts;
}

std::string Reason(const XenGuestFacts& facts, bool unsafe_disk = false) {
  const absl::Status status = CheckProtectable(facts, {.unsafe_disk = unsafe_disk});
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  return std::string(status.message());
}

XenGuestFacts With(const std::string& config_json) {
  XenGuestFacts facts = Good();
  facts.config_json = config_json;
  return facts;
}

TEST(Refusals, APlainPvhGuestIsProtected) {
  EXPECT_TRUE(CheckProtectable(Good(), {}).ok()) << CheckProtectable(Good(), {});
}

TEST(Refusals, PvAndGuestsWithoutNestedPaging) {
  XenGuestFacts facts = Good();
  facts.status.hvm = false;
  EXPECT_THAT(Reason(facts), AllOf(HasSubstr("g1"), HasSubstr("PV guest"), HasSubstr("pvh")));
  facts = Good();
  facts.status.hap = false;
  EXPECT_THAT(Reason(facts), HasSubstr("nested paging"));
}

TEST(Refusals, AGuestThatCanNotBeSuspended) {
  XenGuestFacts facts = Good();
  facts.suspends = false;
  EXPECT_THAT(Reason(facts), HasSubstr("control/feature-suspend"));
}

TEST(Refusals, PassedThroughDevices) {
  EXPECT_THAT(Reason(With(R"({"pcidevs":[{"bus":3}]})")), HasSubstr("pci-detach"));
  EXPECT_TRUE(CheckProtectable(With(R"({"pcidevs":[]})"), {}).ok());
}

TEST(Refusals, VirtualNuma) {
  EXPECT_THAT(Reason(With(R"({"b_info":{"vnuma_nodes":[{"memkb":1},{"memkb":1}]}})")),
              HasSubstr("NUMA"));
}

TEST(Refusals, BackEndsElsewhere) {
  EXPECT_THAT(Reason(With(R"({"nics":[{"backend_domname":"driver1"}]})")), HasSubstr("nics"));
  EXPECT_THAT(Reason(With(R"({"nics":[{},{"backend_domid":3}]})")), HasSubstr("nics"));
  EXPECT_THAT(Reason(With(R"({"disks":[{"backend_domid":3,"readwrite":0}]})")), HasSubstr("disks"));
  EXPECT_TRUE(CheckProtectable(With(R"({"nics":[{"backend_domid":0},
                                               {"backend_domname":"Domain-0"}]})"),
                               {})
                  .ok());
}

TEST(Refusals, BackEndsElsewhereOfEveryKindOfDevice) {
  for (const char* const list : {"p9s", "channels", "vkbs", "kinds of a later toolstack"}) {
    const XenGuestFacts there = With(absl::StrCat(R"({")", list, R"(":[{"backend_domid":3}]})"));
    EXPECT_THAT(Reason(there, /*unsafe_disk=*/true),
                HasSubstr(absl::StrCat("one of its ", list, " is not in the first domain")));
  }
}

TEST(Refusals, WritableDisksUnlessTheirOwnerKnows) {
  for (const char* writable : {"1", "true"}) {
    const XenGuestFacts facts =
        With(absl::StrCat(R"({"disks":[{"vdev":"xvdb","readwrite":)", writable, "}]}"));
    EXPECT_THAT(Reason(facts), AllOf(HasSubstr("xvdb"), HasSubstr("--unsafe-disk")));
    EXPECT_TRUE(CheckProtectable(facts, {.unsafe_disk = true}).ok());
    EXPECT_TRUE(WritesDisks(facts.config_json));
  }
  EXPECT_TRUE(CheckProtectable(With(R"({"disks":[{"vdev":"xvdb","readwrite":false}]})"), {}).ok());
  EXPECT_FALSE(WritesDisks(R"({"disks":[{"vdev":"xvdb","readwrite":false}]})"));
  EXPECT_FALSE(WritesDisks("nothing of the kind"));
  EXPECT_TRUE(
      CheckProtectable(With(R"({"disks":[{"vdev":"hdc","readwrite":1,"is_cdrom":1}]})"), {}).ok());
}

TEST(Refusals, ASharedDirectoryIsLikeAWritableDisk) {
  const XenGuestFacts facts = With(R"({"p9s":[{"tag":"share","path":"/srv"}]})");
  EXPECT_THAT(Reason(facts), AllOf(HasSubstr("p9"), HasSubstr("--unsafe-disk")));
  EXPECT_TRUE(CheckProtectable(facts, {.unsafe_disk = true}).ok());
}

TEST(Refusals, WhoseDisksAreWritable) {
  EXPECT_TRUE(WritesDisks(R"({"disks":[{"readwrite":0},{"readwrite":1}]})"));
  EXPECT_TRUE(WritesDisks(R"({"p9s":[{"tag":"share"}]})"));
  for (const char* const config : {"", "{", "{}", R"({"disks":[{"readwrite":0}],"p9s":[]})",
                                   R"({"disks":[{"readwrite":1,"is_cdrom":1}]})"}) {
    EXPECT_FALSE(WritesDisks(config)) << config;
  }
}

TEST(Refusals, DevicesWhoseOtherEndNoCopyHas) {
  for (const char* const list : {"usbctrls", "usbdevs", "vtpms", "channels", "pvcallsifs", "vfbs",
                                 "vkbs", "vdispls", "vsnds", "virtios"}) {
    const XenGuestFacts facts = With(absl::StrCat(R"({")", list, R"(":[{}]})"));
    const std::string reason = Reason(facts, /*unsafe_disk=*/true);
    EXPECT_THAT(reason, HasSubstr(absl::StrCat("(", list, ")")));
    EXPECT_THAT(reason, Not(HasSubstr(";"))) << "told once";
    EXPECT_TRUE(CheckProtectable(With(absl::StrCat(R"({")", list, R"(":[]})")), {}).ok()) << list;
  }
}

TEST(Refusals, WhatABackupWouldRefuseIsRefusedHere) {
  EXPECT_THAT(Reason(With(R"({"b_info":{"device_model":"/tmp/qemu"}})")),
              HasSubstr("device_model"));
  XenGuestFacts facts = With(R"({"b_info":{"device_model":"/tmp/qemu"}})");
  facts.status.hvm = false;
  EXPECT_THAT(Reason(facts), Not(HasSubstr("device_model"))) << "what helps it is another type";
}

TEST(Refusals, WhatABackupCanMapIsForItToJudge) {
  const XenGuestFacts facts = With(R"({"c_info":{"type":"pvh","name":"web#1"},
      "nics":[{"bridge":"a b"}],"disks":[{"vdev":"xvda","pdev_path":"rbd:pool/image"}]})");
  EXPECT_TRUE(CheckProtectable(facts, {}).ok()) << CheckProtectable(facts, {});
  EXPECT_THAT(Reason(With(R"({"disks":[{"vdev":"xvda","script":"/tmp/x"}]})")),
              HasSubstr("/etc/xen/scripts"));
}

TEST(Refusals, WhatSaysNothingClearlyCountsAsWritable) {
  for (const char* writable : {"\"\"", "{}", "[]", "\"False\""}) {
    EXPECT_TRUE(WritesDisks(absl::StrCat(R"({"disks":[{"readwrite":)", writable, "}]}")));
  }
}

XenGuestFacts Hvm() {
  XenGuestFacts facts = With(R"({"c_info":{"type":"hvm","name":"g1"},
                                 "b_info":{"max_vcpus":2,"type.hvm":{"vga":{"kind":"none"}}}})");
  facts.device_model = "qemu_xen";
  return facts;
}

TEST(Refusals, AnHvmGuestWithTheUsualDeviceModelIsProtected) {
  EXPECT_TRUE(CheckProtectable(Hvm(), {}).ok()) << CheckProtectable(Hvm(), {});
}

TEST(Refusals, ADeviceModelWhoseStateCanNotBeCopied) {
  for (const char* const other : {"", "qemu_xen_traditional", "none"}) {
    XenGuestFacts facts = Hvm();
    facts.device_model = other;
    EXPECT_THAT(Reason(facts), AllOf(HasSubstr("qemu-xen"), HasSubstr("type=\"pvh\""))) << other;
  }
  XenGuestFacts facts = Hvm();
  facts.config_json = R"({"c_info":{"type":"hvm"},
                          "b_info":{"type.hvm":{"usb":"True","spice":{"enable":"True"}}}})";
  EXPECT_THAT(Reason(facts), AllOf(HasSubstr("usb=0"), HasSubstr("spice=0")));
}

TEST(Refusals, BalloonedMemory) {
  XenGuestFacts facts = Good();
  facts.target_kib = 65536;
  EXPECT_THAT(Reason(facts), HasSubstr("xl mem-set g1 128m"));
  facts.video_kib = 65536;
  EXPECT_TRUE(CheckProtectable(facts, {}).ok()) << "the rest is a video card's";
  facts.target_kib = 0;
  EXPECT_TRUE(CheckProtectable(facts, {}).ok()) << "not known is no reason";
}

TEST(Refusals, WhatItsHostDoesByItself) {
  XenGuestFacts facts = Good();
  facts.host_reasons = {"this host starts it when it boots", "this host moves it"};
  EXPECT_THAT(Reason(facts), HasSubstr("this host starts it when it boots; this host moves it"));
}

TEST(Refusals, AllReasonsAreTold) {
  XenGuestFacts facts = With(R"({"pcidevs":[{}],"b_info":{"vnuma_nodes":[{}]}})");
  facts.status.hap = false;
  EXPECT_THAT(Reason(facts),
              AllOf(HasSubstr("nested paging"), HasSubstr("PCI"), HasSubstr("NUMA")));
}

TEST(Refusals, AConfigurationThatIsNoneIsRefused) {
  for (const char* text : {"", "[", "[]", "null", "7", "\"g1\""}) {
    EXPECT_THAT(Reason(With(text)), HasSubstr("xl list -l")) << text;
  }
}

TEST(Refusals, FieldsOfAnotherTypeDoNoHarm) {
  for (const char* text :
       {R"({"disks":{},"nics":7,"pcidevs":"","b_info":[]})", R"({"disks":[1,null,[]],"nics":[{}]})",
        R"({"nics":[{"backend_domid":"0","backend_domname":7}]})"}) {
    EXPECT_TRUE(CheckProtectable(With(text), {}).ok()) << text;
  }
}

TEST(ParseXlList, TakesTheConfigurationAndTheVcpus) {
  const auto config =
      ParseXlList(R"([{"domid":3,"config":{"b_info":{"max_vcpus":2},"c_info":{"name":"g1"}}}])");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->max_vcpus, 2u);
  EXPECT_THAT(config->json, HasSubstr("\"name\":\"g1\""));
  EXPECT_THAT(config->json, Not(HasSubstr("domid")));
}

TEST(ParseXlList, RefusesWhatItIsNot) {
  for (const char* text :
       {"", "{}", "[]", "[{}]", "[{},{}]", R"([{"config":{}}])", R"([{"config":7}])",
        R"([{"config":{"b_info":{"max_vcpus":0}}}])", R"([{"config":{"b_info":{"max_vcpus":-1}}}])",
        R"([{"config":{"b_info":{"max_vcpus":"2"}}}])",
        R"([{"config":{"b_info":{"max_vcpus":4294967296}}}])"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseXlList(text).status())) << text;
  }
}

}  // namespace
}  // namespace haven
