// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/refusals.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "xen/base/config_rules.h"
#include "xen/base/hvm_config.h"

namespace haven {

namespace {

using Json = nlohmann::json;

bool InOtherDomain(const Json& device) {
  const std::string domain = TextAt(device, "backend_domname");
  if (!domain.empty() && domain != "Domain-0" && domain != "0") return true;
  const Json& domid = ConfigAt(device, "backend_domid");
  return domid.is_number_unsigned() && domid != 0;
}

bool Writable(const Json& disk) {
  return IsFlagUp(disk, "readwrite") && !IsFlagUp(disk, "is_cdrom");
}

// A directory of the host may be written to like a disk.
bool AnyWritable(const Json& config) {
  const Json& disks = ElementsAt(config, "disks");
  return std::any_of(disks.begin(), disks.end(), Writable) || !ElementsAt(config, "p9s").empty();
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
  // Every list of devices, whatever kinds a toolstack knows.
  for (const auto& [kind, list] : config.items()) {
    if (!list.is_array() || std::none_of(list.begin(), list.end(), InOtherDomain)) continue;
    reasons.push_back(absl::StrCat("the other end of one of its ", kind,
                                   " is not in the first domain, where its output could be "
                                   "held: give it a backend there"));
  }
  for (const Json& disk : ElementsAt(config, "disks")) {
    if (unsafe_disk || !Writable(disk)) continue;
    reasons.push_back(absl::StrCat(
        "its disk ", TextAt(disk, "vdev"),
        " is writable, and disks are not part of an epoch: a copy would go on with an older "
        "memory and a newer disk. Make it read-only, or say --unsafe-disk if you know that the "
        "guest can stand it"));
  }
  if (!unsafe_disk && !ElementsAt(config, "p9s").empty()) {
    reasons.push_back(
        "it shares a directory of this host (p9), which is not part of an epoch: take it away, or "
        "say --unsafe-disk if you know that the guest can stand it");
  }
}

// Without what a backup may have its own words for (xen/backup/replica_options.h).
Json WithoutMapped(Json config) {
  const auto drop = [](Json& object, const char* name) {
    if (object.is_object()) object.erase(name);
  };
  if (config.contains("c_info")) drop(config["c_info"], "name");
  const std::pair<const char*, const char*> mapped[] = {{"nics", "bridge"}, {"disks", "pdev_path"}};
  for (const auto& [list, name] : mapped) {
    if (!config.contains(list) || !config[list].is_array()) continue;
    for (Json& element : config[list]) drop(element, name);
  }
  return config;
}

// What its copy's host asks of the configuration is asked here already, so that the guest's owner
// hears of it before anything is sent.
void CheckConfig(const XenGuestFacts& facts, const Json& listed,
                 std::vector<std::string>& reasons) {
  const Json config = WithoutMapped(listed);
  const bool hvm = TextAt(ConfigAt(config, "c_info"), "type") == "hvm";
  // The configuration does not name the usual one.
  if (hvm && facts.device_model != "qemu_xen") {
    reasons.push_back(absl::StrCat("its device model is \"", facts.device_model,
                                   "\", whose state can not be copied: start it with "
                                   "device_model_version=\"qemu-xen\", or as type=\"pvh\""));
  }
  std::vector<std::string> more = hvm ? ReasonsAgainstHvm(config) : ReasonsAgainstPvh(config);
  std::move(more.begin(), more.end(), std::back_inserter(reasons));
}

void CheckMemory(const XenGuestFacts& facts, const Json& config,
                 std::vector<std::string>& reasons) {
  if (!ElementsAt(ConfigAt(config, "b_info"), "vnuma_nodes").empty()) {
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
    // As another type a PV guest has another configuration.
    if (facts.status.hvm) CheckConfig(facts, config, reasons);
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
  const Json& config = ConfigAt(list[0], "config");
  const Json& vcpus = ConfigAt(ConfigAt(config, "b_info"), "max_vcpus");
  if (!vcpus.is_number_unsigned() || vcpus == 0 || vcpus.get<uint64_t>() > UINT32_MAX) {
    return absl::InvalidArgumentError("`xl list -l` does not say how many vCPUs the guest has");
  }
  return XenToolstackConfig{config.dump(), vcpus.get<uint32_t>()};
}

}  // namespace haven
