// SPDX-License-Identifier: Apache-2.0
#include "xen/base/any_guest_config.h"

#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "xen/base/config_rules.h"

namespace haven {
namespace {

using Json = nlohmann::json;
using Reasons = std::vector<std::string>;

// Of "c_info". Not "xsdata" and "platformdata", which are written to the store as they are.
const std::set<std::string>& KnownOfCreate() {
  static const std::set<std::string> known = absl::StrSplit(
      "type hap oos ssidref ssid_label name domid uuid poolid pool_name run_hotplug_scripts "
      "driver_domain passthrough xend_suspend_evtchn_compat",
      ' ');
  return known;
}

// Of "b_info", without a say in what the device model is, does or reads; but for those that rules
// judge, here or in hvm_config.cc.
const std::set<std::string>& KnownOfBuild() {
  static const std::set<std::string> known = absl::StrSplit(
      "max_vcpus avail_vcpus cpumap nodemap vcpu_hard_affinity vcpu_soft_affinity "
      "numa_placement tsc_mode max_memkb target_memkb video_memkb shadow_memkb "
      "iommu_memkb rtc_timeoffset exec_ssidref exec_ssid_label localtime disable_migrate "
      "cpuid blkdev_start vnuma_nodes max_grant_frames max_maptrack_frames "
      "max_grant_version device_model_version device_model_stubdomain stubdomain_memkb "
      "dm_restrict sched_params claim_mode event_channels kernel cmdline ramdisk acpi "
      "timer_mode nested_hvm apic tee type.hvm type.pvh arch_arm arch_x86 altp2m "
      "vmtrace_buf_kb vpmu",
      ' ');
  return known;
}

// A program of the toolstack's folder for such, or one named with that folder.
bool IsScriptOrUnset(const Json& value) {
  if (IsUnset(value)) return true;
  if (!value.is_string()) return false;
  const std::string& path = value.get_ref<const std::string&>();
  const absl::string_view name = absl::StripPrefix(path, "/etc/xen/scripts/");
  return !name.empty() && name.front() != '.' && IsPlain(std::string(name), "-_.");
}

// What may be said of an HVM guest in its own part as well.
void CheckProcessor(const Json& build, Reasons& reasons) {
  const Json& hvm = ConfigAt(build, "type.hvm");
  for (const Json* const object : {&build, &hvm}) {
    WantOff(*object, "nested_hvm",
            "it may run guests of its own, whose state can not be copied: start it with "
            "nestedhvm=0",
            reasons);
  }
  Want(IsOneOf(ConfigAt(build, "altp2m"), {"disabled"}) &&
           IsOneOf(ConfigAt(hvm, "altp2m"), {"False", "<default>"}),
       "it has alternate views of its memory, which can not be tracked: start it with "
       "altp2m=\"disabled\"",
       reasons);
}

void CheckBuild(const Json& build, bool hvm, Reasons& reasons) {
  std::set<std::string> known = KnownOfBuild();
  // A copy is never booted by it, nor is its output asked for here.
  if (!hvm) known.insert("bootloader");
  CheckKnown(build, known, reasons);
  Want(IsOneOf(ConfigAt(build, "device_model_version"), {"qemu_xen"}),
       "its device model is not QEMU's own line: start it with device_model_version=\"qemu-xen\"",
       reasons);
  WantOff(build, "device_model_stubdomain",
          "its device model is in a domain of its own: start it with "
          "device_model_stubdomain_override=0",
          reasons);
  CheckProcessor(build, reasons);
  if (hvm) return;
  const Json& bootloader = ConfigAt(build, "bootloader");
  Want(IsPlain(bootloader, "-_.+"),
       "its bootloader is not one of the toolstack's own programs: set bootloader=\"pygrub\"",
       reasons);
  // QEMU gets these of HVM guests only, and a copy is not booted from them.
  for (const char* const text : {"kernel", "ramdisk", "cmdline"}) {
    const Json& value = ConfigAt(build, text);
    Want(IsUnset(value) || value.is_string(), absl::StrCat("its ", text, " is no text"), reasons);
  }
  const Json& pvh = ConfigAt(build, "type.pvh");
  WantOff(pvh, "pvshim", "it runs on a hypervisor of its own: start it with pvshim=0", reasons);
  CheckKnown(pvh, {"pvshim"}, reasons);
}

void CheckColo(const Json& device, const char* list, Reasons& reasons) {
  if (!device.is_object()) return;
  for (const auto& [name, value] : device.items()) {
    if (!absl::StartsWith(name, "colo") && name != "active_disk" && name != "hidden_disk") continue;
    const bool is_switch = name == "colo_enable" || name == "colo_restore_enable";
    if (IsUnset(value) || (is_switch && IsOneOf(value, {"False", "<default>"})) ||
        (name == "colo_port" && value == 0)) {
      continue;
    }
    reasons.push_back(absl::StrCat("one of its ", list, " is set up for COLO (",
                                   absl::CHexEscape(name.substr(0, 64)), "): start it without"));
  }
}

void CheckScript(const Json& device, const std::string& what, Reasons& reasons) {
  Want(IsScriptOrUnset(ConfigAt(device, "script")),
       absl::StrCat("the script of ", what,
                    " is not one of /etc/xen/scripts: put it there, and name it script=NAME"),
       reasons);
}

void CheckDisk(const Json& disk, bool hvm, Reasons& reasons) {
  const std::string what = absl::StrCat(
      "its disk ", ConfigAt(disk, "vdev").dump(-1, ' ', true, Json::error_handler_t::replace));
  const Json& path = ConfigAt(disk, "pdev_path");
  // What a script of this host makes of it is the script's matter; QEMU gets none of those.
  const bool is_scripts = !hvm && !IsUnset(ConfigAt(disk, "script")) && IsPlain(path, "-_.:/=,@+");
  Want(is_scripts || IsPathOrUnset(path),
       absl::StrCat(what, " is not named by an absolute path without commas: name it so"), reasons);
  CheckScript(disk, what, reasons);
  CheckColo(disk, "disks", reasons);
}

void CheckNic(const Json& nic, Reasons& reasons) {
  Want(IsPlain(ConfigAt(nic, "model"), "-_"),
       "a NIC's model is not a name: set model=rtl8139 or e1000", reasons);
  Want(IsPlain(ConfigAt(nic, "ifname"), "-_.") && IsPlain(ConfigAt(nic, "bridge"), "-_.") &&
           IsPlain(ConfigAt(nic, "gatewaydev"), "-_."),
       "the bridge or the interface of a NIC has a name with other characters than letters, "
       "digits, - _ and .: rename it",
       reasons);
  Want(IsPlain(ConfigAt(nic, "ip"), " .:/,"), "a NIC's addresses are none: set ip=ADDRESS",
       reasons);
  CheckScript(nic, "a NIC", reasons);
  CheckColo(nic, "nics", reasons);
}

void CheckDirectory(const Json& p9, Reasons& reasons) {
  Want(IsPathOrUnset(ConfigAt(p9, "path")) && IsPlain(ConfigAt(p9, "security_model"), "-_") &&
           IsPlain(ConfigAt(p9, "tag"), "-_.:"),
       "a directory that it shares (p9) is not named by an absolute path without commas, or its "
       "tag or security model are no names: name them so",
       reasons);
}

// Devices that no copy can have: their state, or what they send, is in no epoch.
void CheckOtherDevices(const Json& config, Reasons& reasons) {
  Want(IsUnset(ConfigAt(config, "pcidevs")),
       "a PCI device is passed through to it, whose state can not be copied: detach it (xl "
       "pci-detach)",
       reasons);
  constexpr std::pair<const char*, const char*> kKinds[] = {
      {"rdms", "memory kept free for devices"},
      {"dtdevs", "a device of this host's device tree"},
      {"usbctrls", "a USB controller"},
      {"usbdevs", "a USB device"},
      {"vtpms", "a virtual TPM"},
      {"channels", "a channel to a program of this host"},
      {"vfbs", "a frame buffer"},
      {"vkbs", "a virtual keyboard"},
      {"vdispls", "a virtual display"},
      {"vsnds", "a virtual sound card"},
      {"pvcallsifs", "sockets in another domain (pvcalls)"},
      {"virtios", "a virtio device"},
  };
  for (const auto& [list, what] : kKinds) {
    Want(IsUnset(ConfigAt(config, list)),
         absl::StrCat("it has ", what, " (", list,
                      "), which a copy can not go on with: start it without"),
         reasons);
  }
}

}  // namespace

void CheckAnyGuest(const Json& config, bool hvm, Reasons& reasons) {
  const Json& create = ConfigAt(config, "c_info");
  CheckKnown(create, KnownOfCreate(), reasons);
  Want(IsPlain(ConfigAt(create, "name"), "-_.+:@"),
       "its name has other characters than letters, digits and -_.+:@, which its device model "
       "would take for options: use `xl rename`",
       reasons);
  Want(IsOneOf(ConfigAt(create, "passthrough"), {"default", "disabled"}),
       "devices may be passed through to it: start it with passthrough=\"disabled\"", reasons);
  WantOff(create, "driver_domain", "it serves other guests: start it with driver_domain=0",
          reasons);
  CheckBuild(ConfigAt(config, "b_info"), hvm, reasons);
  CheckOtherDevices(config, reasons);
  for (const Json& disk : ElementsAt(config, "disks")) CheckDisk(disk, hvm, reasons);
  for (const Json& nic : ElementsAt(config, "nics")) CheckNic(nic, reasons);
  for (const Json& p9 : ElementsAt(config, "p9s")) CheckDirectory(p9, reasons);
}

}  // namespace haven
