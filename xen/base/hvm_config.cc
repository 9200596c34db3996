// SPDX-License-Identifier: Apache-2.0
#include "xen/base/hvm_config.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "xen/base/any_guest_config.h"
#include "xen/base/config_rules.h"

namespace haven {
namespace {

using Json = nlohmann::json;
using Reasons = std::vector<std::string>;

// Of "type.hvm" in "b_info", but for those that rules below judge: without a say in what the
// device model is, does or reads.
const std::set<std::string>& KnownOfHvm() {
  static const std::set<std::string> known = absl::StrSplit(
      "bios pae apic acpi acpi_s3 acpi_s4 acpi_laptop_slate nx viridian viridian_enable "
      "viridian_disable timeoffset hpet vpt_align mmio_hole_memkb timer_mode nested_hvm "
      "altp2m hdtype nographic vga vnc keymap sdl spice gfx_passthru serial boot usb "
      "vkb_device xen_platform_pci vendor_device ms_vm_genid serial_list rdm "
      "rdm_mem_boundary_memkb mca_caps",
      ' ');
  return known;
}

void CheckProgram(const Json& build, Reasons& reasons) {
  WantOff(build, "dm_restrict",
          "its device model runs confined, and so can not wait for a state: "
          "start it with dm_restrict=0",
          reasons);
  for (const char* const file : {"kernel", "ramdisk"}) {
    Want(IsPathOrUnset(ConfigAt(build, file)),
         absl::StrCat("its ", file, " is not named by an absolute path without commas: write ",
                      file, "=\"/...\" in its file"),
         reasons);
  }
}

void CheckScreen(const Json& hvm, Reasons& reasons) {
  Want(IsOneOf(ConfigAt(ConfigAt(hvm, "vga"), "kind"), {"none", "std", "cirrus"}),
       "its graphics card is none whose state is known: start it with vga=\"std\", \"cirrus\" or "
       "\"none\"",
       reasons);
  WantOff(ConfigAt(hvm, "spice"), "enable",
          "it has a SPICE screen, whose channels are not part of its state: start it with spice=0",
          reasons);
  WantOff(ConfigAt(hvm, "sdl"), "enable",
          "its screen is a window on this host: start it with sdl=0, and vnc=1 if it needs one",
          reasons);
  const Json& listen = ConfigAt(ConfigAt(hvm, "vnc"), "listen");
  Want(IsPlain(listen, ".:[]-") &&
           !(listen.is_string() && absl::StartsWith(listen.get<std::string>(), "unix")),
       "its VNC screen listens elsewhere than at an address: set vnclisten=\"ADDRESS\"", reasons);
  Want(IsPlain(ConfigAt(hvm, "keymap"), "-_"), "its keymap is not a name: set keymap=\"NAME\"",
       reasons);
  WantOff(hvm, "gfx_passthru",
          "this host's graphics card is passed through to it: start it with gfx_passthru=0",
          reasons);
}

void CheckDevices(const Json& hvm, Reasons& reasons) {
  WantOff(hvm, "usb", "it has USB, whose devices are not part of its state: start it with usb=0",
          reasons);
  Want(IsOneOf(ConfigAt(hvm, "xen_platform_pci"), {"True", "<default>"}),
       "it has no Xen platform device, and so no drivers that could suspend it: start it with "
       "xen_platform_pci=1",
       reasons);
  Want(IsOneOf(ConfigAt(ConfigAt(hvm, "rdm"), "strategy"), {"ignore"}),
       "its memory has holes for passed through devices: start it without rdm", reasons);
  Want(IsPlain(ConfigAt(hvm, "boot"), ""), "its boot order is more than letters: set boot=\"cda\"",
       reasons);
  const Json& list = ConfigAt(hvm, "serial_list");
  bool serial_ok = list.is_null() || list.is_array();
  Json all = list.is_array() ? list : Json::array();
  all.push_back(ConfigAt(hvm, "serial"));
  for (const Json& serial : all) {
    serial_ok = serial_ok && IsOneOf(serial, {"pty", "none", "null"});
  }
  Want(serial_ok,
       "a serial line of it ends in a file, a device or the network: start it with "
       "serial=\"pty\" or without",
       reasons);
}

// A disk that QEMU serves itself, of which it opens only those again after its load that it may
// write.
bool IsReadOnlyOfQemu(const Json& device) {
  return TextAt(device, "backend") == "qdisk" && !IsFlagUp(device, "readwrite") &&
         !IsFlagUp(device, "is_cdrom");
}

// The lists of devices, as far as only a device model makes them a matter.
void CheckLists(const Json& config, Reasons& reasons) {
  Want(IsUnset(ConfigAt(config, "p9s")),
       "it has devices (p9s) whose state, or other end, its device model does not save: start it "
       "without",
       reasons);
  for (const Json& device : ElementsAt(config, "disks")) {
    Want(!IsReadOnlyOfQemu(device),
         absl::StrCat("its disk ",
                      ConfigAt(device, "vdev").dump(-1, ' ', true, Json::error_handler_t::replace),
                      " is read-only and served by its device model, which would not go on with "
                      "it on another host: give it a block device (phy:) or make it a CD-ROM"),
         reasons);
  }
}

}  // namespace

std::vector<std::string> ReasonsAgainstHvm(const Json& config) {
  Reasons reasons;
  const Json& build = ConfigAt(config, "b_info");
  const Json& hvm = ConfigAt(build, "type.hvm");
  if (!hvm.is_object()) return {"the toolstack does not say what its device model is (type.hvm)"};
  CheckAnyGuest(config, true, reasons);
  CheckKnown(hvm, KnownOfHvm(), reasons);
  CheckProgram(build, reasons);
  CheckScreen(hvm, reasons);
  CheckDevices(hvm, reasons);
  CheckLists(config, reasons);
  return reasons;
}

std::vector<std::string> ReasonsAgainstPvh(const Json& config) {
  Reasons reasons;
  CheckAnyGuest(config, false, reasons);
  return reasons;
}

}  // namespace haven
