// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/refusals.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "xen/base/hvm_config.h"

namespace haven {

namespace {

using Json = nlohmann::json;

const Json* Find(const Json& json, const char* name) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(name);
  return found == json.end() ? nullptr : &*found;
}

// An entry of a device list, or an empty list.
const Json& ListOf(const Json& config, const char* name) {
  static const Json kEmpty = Json::array();
  const Json* const list = Find(config, name);
  return list != nullptr && list->is_array() ? *list : kEmpty;
}

std::string TextOf(const Json& json, const char* name) {
  const Json* const value = Find(json, name);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

bool InOtherDomain(const Json& device) {
  const std::string domain = TextOf(device, "backend_domname");
  if (!domain.empty() && domain != "Domain-0" && domain != "0") return true;
  const Json* const domid = Find(device, "backend_domid");
  return domid != nullptr && domid->is_number_unsigned() && domid->get<uint64_t>() != 0;
}

bool Writable(const Json& disk) {
  const Json* const writable = Find(disk, "readwrite");
  const bool is_writable = writable != nullptr &&
                           (writable->is_boolean() ? writable->get<bool>() : *writable != Json(0));
  const Json* const cdrom = Find(disk, "is_cdrom");
  const bool is_cdrom =
      cdrom != nullptr && (cdrom->is_boolean() ? cdrom->get<bool>() : *cdrom != Json(0));
  return is_writable && !is_cdrom;
}

// A directory of the host may be written to like a disk.
bool AnyWritable(const Json& config) {
  const Json& disks = ListOf(config, "disks");
  return std::any_of(disks.begin(), disks.end(), Writable) || !ListOf(config, "p9s").empty();
}

void CheckKind(const XenGuestFacts& facts, std::vector<std::string>& reasons) {
  if (!facts.status.hvm) {
    reasons.push_back(
        "it is a PV guest, whose memory can not be tracked here: start it with type=\"pvh\"");
    return;
  }
  if (!facts.status.hap) {
    reasons.push_back(
        "it runs without nested paging: start it with hap=1 on a processor with EPT "
        "or NPT");
  }
  if (!facts.suspends) {
    reasons.push_back(
        "its kernel does not offer to be suspended (control/feature-suspend), or has "
        "not booted yet: a Linux with Xen's drivers is wanted, once it is up");
  }
}

void CheckDevices(const Json& config, bool unsafe_disk, std::vector<std::string>& reasons) {
  if (!ListOf(config, "pcidevs").empty()) {
    reasons.push_back(
        "a PCI device is passed through to it, whose state can not be copied: "
        "detach it (xl pci-detach)");
  }
  // Every list of devices, whatever kinds a toolstack knows.
  for (const auto& [kind, list] : config.items()) {
    if (!list.is_array() || std::none_of(list.begin(), list.end(), InOtherDomain)) continue;
    reasons.push_back(absl::StrCat("the other end of one of its ", kind,
                                   " is not in the first domain, where its output could be "
                                   "held: give it a backend there"));
  }
  for (const Json& disk : ListOf(config, "disks")) {
    if (unsafe_disk || !Writable(disk)) continue;
    reasons.push_back(absl::StrCat(
        "its disk ", TextOf(disk, "vdev"),
        " is writable, and disks are not part of an epoch: a copy would go on with an older "
        "memory and a newer disk. Make it read-only, or say --unsafe-disk if you know that the "
        "guest can stand it"));
  }
  if (!unsafe_disk && !ListOf(config, "p9s").empty()) {
    reasons.push_back(
        "it shares a directory of this host (p9), which is not part of an epoch: take it away, or "
        "say --unsafe-disk if you know that the guest can stand it");
  }
}

// Devices whose other end has a state that no epoch has, or sends what no buffer holds.
void CheckBackEnds(const Json& config, std::vector<std::string>& reasons) {
  const std::array<std::pair<const char*, const char*>, 9> kinds = {{
      {"usbctrls", "a USB controller"},
      {"usbdevs", "a USB device"},
      {"vtpms", "a virtual TPM"},
      {"pvcallsifs", "sockets in another domain (pvcalls)"},
      {"vfbs", "a frame buffer"},
      {"vkbs", "a virtual keyboard"},
      {"vdispls", "a virtual display"},
      {"vsnds", "a virtual sound card"},
      {"virtios", "a virtio device"},
  }};
  for (const auto& [list, what] : kinds) {
    if (ListOf(config, list).empty()) continue;
    reasons.push_back(
        absl::StrCat("it has ", what, ", which a copy can not go on with: start it without"));
  }
}

void CheckDeviceModel(const XenGuestFacts& facts, const Json& config,
                      std::vector<std::string>& reasons) {
  const Json* const made = Find(config, "c_info");
  if (made == nullptr || TextOf(*made, "type") != "hvm") return;
  // The configuration does not name the usual one.
  if (facts.device_model != "qemu_xen") {
    reasons.push_back(absl::StrCat("its device model is \"", facts.device_model,
                                   "\", whose state can not be copied: start it with "
                                   "device_model_version=\"qemu-xen\", or as type=\"pvh\""));
  }
  std::vector<std::string> more = ReasonsAgainstHvm(config);
  std::move(more.begin(), more.end(), std::back_inserter(reasons));
}

void CheckMemory(const XenGuestFacts& facts, const Json& config,
                 std::vector<std::string>& reasons) {
  const Json* const build = Find(config, "b_info");
  if (build != nullptr && !ListOf(*build, "vnuma_nodes").empty()) {
    reasons.push_back("it has virtual NUMA nodes, which a copy would lose: start it without vnuma");
  }
  if (facts.target_kib != 0 && facts.static_max_kib != 0 &&
      facts.target_kib + facts.video_kib != facts.static_max_kib) {
    reasons.push_back(absl::StrCat("its memory is ballooned to ", facts.target_kib, " of ",
                                   facts.static_max_kib,
                                   " KiB, and must not change while it is protected: xl mem-set ",
                                   facts.name, " ", facts.static_max_kib / 1024, "m"));
  }
}

}  // namespace

absl::Status CheckProtectable(const XenGuestFacts& facts, const XenRefusalOptions& options) {
  std::vector<std::string> reasons;
  CheckKind(facts, reasons);
  const Json config = Json::parse(facts.config_json, nullptr, /*allow_exceptions=*/false);
  if (config.is_object()) {
    CheckDevices(config, options.unsafe_disk, reasons);
    CheckBackEnds(config, reasons);
    CheckDeviceModel(facts, config, reasons);
    CheckMemory(facts, config, reasons);
  } else {
    reasons.push_back("the toolstack does not say how it is made (xl list -l)");
  }
  reasons.insert(reasons.end(), facts.host_reasons.begin(), facts.host_reasons.end());
  if (reasons.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("guest ", facts.name, " can not be protected: ", absl::StrJoin(reasons, "; ")));
}

bool WritesDisks(absl::string_view config_json) {
  const Json config = Json::parse(config_json.begin(), config_json.end(), nullptr,
                                  /*allow_exceptions=*/false);
  return AnyWritable(config);
}

absl::StatusOr<XenToolstackConfig> ParseXlList(absl::string_view printed) {
  const Json list =
      Json::parse(printed.begin(), printed.end(), nullptr, /*allow_exceptions=*/false);
  if (!list.is_array() || list.size() != 1) {
    return absl::InvalidArgumentError("`xl list -l` did not print one guest");
  }
  const Json* const config = Find(list[0], "config");
  const Json* const build = config != nullptr ? Find(*config, "b_info") : nullptr;
  const Json* const vcpus = build != nullptr ? Find(*build, "max_vcpus") : nullptr;
  if (vcpus == nullptr || !vcpus->is_number_unsigned() || vcpus->get<uint64_t>() == 0 ||
      vcpus->get<uint64_t>() > UINT32_MAX) {
    return absl::InvalidArgumentError("`xl list -l` does not say how many vCPUs the guest has");
  }
  return XenToolstackConfig{config->dump(), vcpus->get<uint32_t>()};
}

}  // namespace haven
