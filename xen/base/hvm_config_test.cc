// SPDX-License-Identifier: Apache-2.0
#include "xen/base/hvm_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "xen/base/formats_testing.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

Json Config() { return Json::parse(kListedHvmGuest)[0]["config"]; }

// The configuration with the value at this place ("/b_info/kernel") instead.
Json With(const char* place, const Json& value) {
  Json config = Config();
  config[Json::json_pointer(place)] = value;
  return config;
}

TEST(HvmConfigTest, AnOrdinaryGuestIsFine) { EXPECT_THAT(ReasonsAgainstHvm(Config()), IsEmpty()); }

TEST(HvmConfigTest, SoIsWhatDoesNoHarm) {
  const std::vector<std::pair<const char*, Json>> harmless = {
      {"/b_info/device_model_version", "qemu_xen"},
      {"/b_info/device_model_stubdomain", "False"},
      {"/b_info/dm_restrict", "<default>"},
      {"/b_info/extra", Json::array()},
      {"/b_info/ramdisk", nullptr},
      {"/b_info/altp2m", "disabled"},
      {"/b_info/nested_hvm", "False"},
      {"/b_info/device_model_ssidref", 0},
      {"/b_info/type.hvm/vga/kind", "std"},
      {"/b_info/type.hvm/vga/kind", "cirrus"},
      {"/b_info/type.hvm/vnc", {{"enable", "True"}, {"listen", "0.0.0.0:1"}, {"passwd", "x,y"}}},
      {"/b_info/type.hvm/vnc/listen", "[::1]:5"},
      {"/b_info/type.hvm/spice/enable", "False"},
      {"/b_info/type.hvm/keymap", "en-us"},
      {"/b_info/type.hvm/serial", "pty"},
      {"/b_info/type.hvm/serial_list", {"pty", "none"}},
      {"/b_info/type.hvm/boot", "cda"},
      {"/b_info/type.hvm/bios", "seabios"},
      {"/b_info/type.hvm/hdtype", "ahci"},
      {"/b_info/type.hvm/vkb_device", "True"},
      {"/b_info/type.hvm/xen_platform_pci", "True"},
      {"/b_info/type.hvm/rdm/strategy", "ignore"},
      {"/b_info/type.hvm/usbdevice_list", Json::array()},
      {"/nics/0/model", "rtl8139"},
      {"/disks", {{{"pdev_path", "/a"}, {"backend", "phy"}, {"readwrite", 0}}}},
      {"/disks", {{{"pdev_path", "/a"}, {"backend", "qdisk"}, {"readwrite", 1}}}},
      {"/disks", {{{"pdev_path", "/a"}, {"backend", "qdisk"}, {"is_cdrom", 1}}}},
      {"/disks", {{{"pdev_path", "/dev/vg/a"}, {"colo_enable", "False"}, {"colo_port", 0}}}},
  };
  for (const auto& [place, value] : harmless) {
    EXPECT_THAT(ReasonsAgainstHvm(With(place, value)), IsEmpty()) << place << " " << value;
  }
}

TEST(HvmConfigTest, EachOfTheseIsAReasonOfItsOwnWithARemedy) {
  struct Case {
    const char* place;
    Json value;
    const char* remedy;
  };
  const std::vector<Case> cases = {
      {"/b_info/device_model_version", "qemu_xen_traditional", "\"qemu-xen\""},
      {"/b_info/device_model_stubdomain", "True", "device_model_stubdomain_override=0"},
      {"/b_info/device_model_stubdomain", "Trueish", "device_model_stubdomain_override=0"},
      {"/b_info/device_model_stubdomain", true, "device_model_stubdomain_override=0"},
      {"/b_info/stubdomain_kernel", "/x", "stubdomain_kernel"},
      {"/b_info/dm_restrict", "True", "dm_restrict=0"},
      {"/b_info/device_model", "/tmp/evil", "setting device_model "},
      {"/b_info/device_model_user", "root", "device_model_user"},
      {"/b_info/device_model_ssidref", 7, "device_model_ssidref"},
      {"/b_info/extra", {"-incoming", "exec:x"}, "setting extra "},
      {"/b_info/extra_pv", {"x"}, "extra_pv"},
      {"/b_info/extra_hvm", {"x"}, "extra_hvm"},
      {"/b_info/bootloader", "/bin/sh", "bootloader"},
      {"/b_info/device_tree", "/x", "device_tree"},
      {"/b_info/ioports", {{{"first", 1}, {"number", 1}}}, "ioports"},
      {"/b_info/irqs", {3}, "irqs"},
      {"/b_info/iomem", {{{"start", 1}}}, "iomem"},
      {"/b_info/of_a_later_xen", "x", "of_a_later_xen"},
      {"/b_info/kernel", "vmlinuz", "kernel=\"/...\""},
      {"/b_info/ramdisk", "/a,b", "ramdisk=\"/...\""},
      {"/b_info/ramdisk", 7, "ramdisk=\"/...\""},
      {"/b_info/nested_hvm", "True", "nestedhvm=0"},
      {"/b_info/altp2m", "external", "altp2m"},
      {"/b_info/type.pv", Json::object({{"kernel", "/x"}}), "type.pv"},
      {"/b_info/type.hvm/nested_hvm", "True", "nestedhvm=0"},
      {"/b_info/type.hvm/altp2m", "True", "altp2m"},
      {"/b_info/type.hvm/firmware", "/x", "firmware"},
      {"/b_info/type.hvm/system_firmware", "/x", "system_firmware"},
      {"/b_info/type.hvm/smbios_firmware", "/x", "smbios_firmware"},
      {"/b_info/type.hvm/acpi_firmware", "/x", "acpi_firmware"},
      {"/b_info/type.hvm/vga/kind", "qxl", "vga="},
      {"/b_info/type.hvm/vga/kind", "QXL", "vga="},
      {"/b_info/type.hvm/vnc/listen", "unix:/x", "vnclisten"},
      {"/b_info/type.hvm/vnc/listen", "unix:x", "vnclisten"},
      {"/b_info/type.hvm/vnc/listen", "0:1,websocket=7", "vnclisten"},
      {"/b_info/type.hvm/keymap", "/etc/shadow", "keymap="},
      {"/b_info/type.hvm/sdl/enable", "True", "sdl=0"},
      {"/b_info/type.hvm/spice/enable", "True", "spice=0"},
      {"/b_info/type.hvm/gfx_passthru", "True", "gfx_passthru=0"},
      {"/b_info/type.hvm/gfx_passthru_kind", "igd", "gfx_passthru_kind"},
      {"/b_info/type.hvm/serial", "tcp:evil:1", "serial=\"pty\""},
      {"/b_info/type.hvm/serial", "file:/x", "serial=\"pty\""},
      {"/b_info/type.hvm/serial_list", {"pty", "udp:evil:1"}, "serial=\"pty\""},
      {"/b_info/type.hvm/serial_list", "pty", "serial=\"pty\""},
      {"/b_info/type.hvm/boot", "c,splash=/etc/shadow", "boot="},
      {"/b_info/type.hvm/usb", "True", "usb=0"},
      {"/b_info/type.hvm/usbversion", 2, "usbversion"},
      {"/b_info/type.hvm/usbdevice", "tablet", "usbdevice"},
      {"/b_info/type.hvm/usbdevice_list", {"host:1.2"}, "usbdevice_list"},
      {"/b_info/type.hvm/soundhw", "ac97", "soundhw"},
      {"/b_info/type.hvm/xen_platform_pci", "False", "xen_platform_pci=1"},
      {"/b_info/type.hvm/rdm/strategy", "host", "without rdm"},
      {"/b_info/type.hvm/of_a_later_xen", 1, "of_a_later_xen"},
      {"/c_info/name", "a,process=b", "xl rename"},
      {"/c_info/passthrough", "share_pt", "passthrough="},
      {"/pcidevs", {{{"func", 0}}}, "pci-detach"},
      {"/channels", {{{"connection", "socket"}}}, "channels"},
      {"/p9s", {{{"path", "/"}}}, "p9s"},
      {"/disks", {{{"pdev_path", "/x,backing=/y"}}}, "absolute path"},
      {"/disks", {{{"pdev_path", "/x"}, {"backend", "qdisk"}}}, "(phy:)"},
      {"/disks", {{{"pdev_path", "nbd:evil:1"}}}, "absolute path"},
      {"/disks", {{{"colo_enable", "True"}}}, "COLO"},
      {"/nics/0/model", "rtl8139,romfile=/etc/shadow", "model="},
      {"/nics/0/ifname", "a,script=/x", "rename it"},
      {"/nics/0/bridge", "a,script=/x", "rename it"},
      {"/nics/0/colo_sock_mirror_ip", "1.2.3.4", "COLO"},
      {"/nics/0/colo_sock_mirror_id", "False", "COLO"},
      {"/nics/0/script", "/tmp/evil", "script=NAME"},
      {"/disks", {{{"pdev_path", "/x"}, {"script", "../evil"}}}, "script=NAME"},
      // A text is none of those that mean "off".
      {"/b_info/device_model", "False", "setting device_model "},
      {"/b_info/device_model", "<default>", "setting device_model "},
      {"/b_info/device_model_user", 0, "device_model_user"},
      {"/b_info/type.hvm/firmware", "False", "firmware"},
      {"/c_info/xsdata", {{"image/device-model-pid", "1"}}, "xsdata"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(ReasonsAgainstHvm(With(c.place, c.value)), ElementsAre(HasSubstr(c.remedy)))
        << c.place << " " << c.value;
  }
}

// What `xl list -l` prints for a PVH guest of the laboratory, with what others have besides.
Json PvhConfig() {
  Json config = Config();
  config["c_info"]["type"] = "pvh";
  config["c_info"]["passthrough"] = "disabled";
  config["b_info"].erase("type.hvm");
  config["b_info"]["type.pvh"] = {{"pvshim", "False"}};
  config["b_info"]["cmdline"] = "root=/dev/xvda1 a=\"b,c\" -incoming exec:x ~!";
  config["disks"] = {{{"pdev_path", "/root/d.img"},
                      {"vdev", "xvda"},
                      {"backend", "qdisk"},
                      {"format", "raw"},
                      {"colo_restore_enable", "False"}},
                     {{"pdev_path", "iqn=iqn.2001-05.org:t,portal=10.0.0.1:3260"},
                      {"backend", "phy"},
                      {"script", "block-iscsi"}}};
  return config;
}

Json PvhWith(const char* place, const Json& value) {
  Json config = PvhConfig();
  config[Json::json_pointer(place)] = value;
  return config;
}

TEST(PvhConfigTest, AnOrdinaryGuestIsFine) {
  EXPECT_THAT(ReasonsAgainstPvh(PvhConfig()), IsEmpty());
  for (const char* const text : {"null", "7", "{}", R"({"b_info":7,"disks":{}})"}) {
    EXPECT_THAT(ReasonsAgainstPvh(Json::parse(text)), IsEmpty()) << text;
  }
}

TEST(PvhConfigTest, SoIsWhatDoesNoHarm) {
  const std::vector<std::pair<const char*, Json>> harmless = {
      {"/b_info/bootloader", "pygrub"},
      {"/b_info/bootloader_args", Json::array()},
      {"/b_info/kernel", "vmlinuz"},
      {"/b_info/type.pvh", Json::object()},
      {"/b_info/device_model_version", "qemu_xen"},
      {"/b_info/dm_restrict", "True"},
      {"/nics/0/script", "vif-openvswitch"},
      {"/nics/0/script", "/etc/xen/scripts/vif-bridge"},
      {"/nics/0/ip", "10.0.0.1/24 fe80::1"},
      {"/p9s", {{{"tag", "share"}, {"path", "/srv"}, {"security_model", "none"}}}},
  };
  for (const auto& [place, value] : harmless) {
    EXPECT_THAT(ReasonsAgainstPvh(PvhWith(place, value)), IsEmpty()) << place << " " << value;
  }
}

TEST(PvhConfigTest, WhatTheToolstackWouldRunReadOrConnectToIsAReason) {
  const std::vector<std::pair<const char*, Json>> cases = {
      {"/b_info/extra", {"-incoming", "exec:x"}},
      {"/b_info/extra_pv", {"x"}},
      {"/b_info/device_model", "/tmp/evil"},
      {"/b_info/device_model", "False"},
      {"/b_info/device_model_user", "root"},
      {"/b_info/device_model_version", "qemu_xen_traditional"},
      {"/b_info/device_model_stubdomain", "True"},
      {"/b_info/stubdomain_kernel", "/x"},
      {"/b_info/bootloader", "/bin/sh"},
      {"/b_info/bootloader", "../sh"},
      {"/b_info/bootloader_args", {"x"}},
      {"/b_info/device_tree", "/x"},
      {"/b_info/altp2m", "external"},
      {"/b_info/nested_hvm", "True"},
      {"/b_info/irqs", {3}},
      {"/b_info/kernel", 7},
      {"/b_info/of_a_later_xen", "x"},
      {"/b_info/type.pvh/pvshim", "True"},
      {"/b_info/type.pvh/pvshim_path", "/x"},
      {"/c_info/name", "a,process=b"},
      {"/c_info/passthrough", "share_pt"},
      {"/c_info/driver_domain", "True"},
      {"/c_info/xsdata", {{"a", "b"}}},
      {"/c_info/platformdata", {{"a", "b"}}},
      {"/pcidevs", {{{"func", 0}}}},
      {"/channels", {{{"connection", "socket"}}}},
      {"/vfbs", {{{"devid", 0}}}},
      {"/vkbs", {{{"devid", 0}}}},
      {"/virtios", {{{"devid", 0}}}},
      {"/disks/0/pdev_path", "nbd:evil:1"},
      {"/disks/0/script", "/tmp/evil"},
      {"/disks/0/script", "/etc/xen/scripts/../evil"},
      {"/disks/0/script", ".."},
      {"/disks/0/script", 7},
      {"/disks/1/pdev_path", "$(evil)"},
      {"/disks/0/colo_enable", "True"},
      {"/disks/0/active_disk", "/x"},
      {"/nics/0/script", "a/b"},
      {"/nics/0/script", "a;b"},
      {"/nics/0/ip", "$(evil)"},
      {"/nics/0/gatewaydev", "a,b"},
      {"/nics/0/bridge", "a,b"},
      {"/p9s", {{{"path", "srv"}}}},
      {"/p9s", {{{"path", "/srv,x"}}}},
      {"/p9s", {{{"path", "/srv"}, {"security_model", "none,x"}}}},
  };
  for (const auto& [place, value] : cases) {
    EXPECT_EQ(ReasonsAgainstPvh(PvhWith(place, value)).size(), 1u) << place << " " << value;
  }
}

TEST(HvmConfigTest, AllReasonsAreNamed) {
  Json config = With("/b_info/extra", {"x"});
  config["b_info"]["type.hvm"]["usb"] = "True";
  EXPECT_EQ(ReasonsAgainstHvm(config).size(), 2u);
}

TEST(HvmConfigTest, AnyJsonHasAnAnswer) {
  for (const char* const text :
       {"null", "7", "[]", "{}", R"({"b_info":7})", R"({"b_info":{"type.hvm":[]}})"}) {
    EXPECT_THAT(ReasonsAgainstHvm(Json::parse(text)), ElementsAre(HasSubstr("type.hvm"))) << text;
  }
  for (const char* const place :
       {"/c_info", "/nics", "/nics/0", "/b_info/type.hvm/vga", "/b_info/type.hvm/vnc"}) {
    ReasonsAgainstHvm(With(place, 7));
    ReasonsAgainstHvm(With(place, Json::array({Json::array()})));
  }
}

}  // namespace
}  // namespace haven
