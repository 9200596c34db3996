// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/guest_config.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "xen/base/config_rules.h"
#include "xen/base/hvm_config.h"

namespace haven {
namespace {

using Json = nlohmann::json;

// What libxl writes is about 6 deep.
constexpr int kMaxDepth = 32;
constexpr size_t kMaxNameBytes = 127;

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("configuration of a Xen guest: ", what));
}

bool HasControl(const Json& value) {
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_iscntrl(c); });
}

absl::StatusOr<Json> Parse(absl::string_view text) {
  bool too_deep = false;
  bool control = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    too_deep = too_deep || depth > kMaxDepth;
    // Of the whole text, also of what is dropped later: names and values end at a NUL for the
    // toolstack, which so would see others than the rules here have judged.
    if (event == Json::parse_event_t::key || event == Json::parse_event_t::value) {
      control = control || HasControl(parsed);
    }
    return !too_deep && !control;
  };
  Json config = Json::parse(text.begin(), text.end(), watch, false);
  if (control) return Bad("a name or a text in it has a control character");
  if (too_deep) return Bad(absl::StrCat("more than ", kMaxDepth, " levels deep"));
  if (config.is_object() && config.contains("config")) {
    Json inner = std::move(config["config"]);
    config = std::move(inner);
  }
  if (!config.is_object() || !config.contains("c_info") || !config["c_info"].is_object()) {
    return Bad("not the JSON that `xl list -l` prints for a guest");
  }
  return config;
}

// Replaces the text at `key` if there is another one for it.
void Replace(Json& object, const char* key, const std::map<std::string, std::string>& map) {
  const auto found = map.find(TextAt(object, key));
  if (found != map.end()) object[key] = found->second;
}

absl::Status ParseMac(absl::string_view text, std::array<uint8_t, 6>& mac) {
  const std::vector<absl::string_view> bytes = absl::StrSplit(text, ':');
  bool good = bytes.size() == mac.size();
  for (size_t i = 0; good && i < mac.size(); ++i) {
    uint32_t byte = 0;
    good = bytes[i].size() == 2 && absl::SimpleHexAtoi(bytes[i], &byte);
    mac[i] = static_cast<uint8_t>(byte);
  }
  if (good && (mac[0] & 1) == 0) return absl::OkStatus();
  return Bad(absl::StrCat("a NIC has the MAC address \"", text.substr(0, 32), "\", which is none"));
}

// The toolstack takes the type of the domain from one place and that of its build from another.
absl::Status CheckType(const Json& config, bool device_model) {
  const std::string type = TextAt(config["c_info"], "type");
  if (type != "pvh" && type != "hvm") {
    return absl::UnimplementedError(
        absl::StrCat("a copy of a guest of type \"", type.substr(0, 16),
                     "\" can not be built: set type=\"pvh\" or \"hvm\" in its file"));
  }
  if ((type == "hvm") != device_model) {
    return Bad(absl::StrCat("a guest of type ", type, device_model ? " has no" : " has a",
                            " device model, but its description says otherwise"));
  }
  const auto build = config.find("b_info");
  if (build == config.end()) return absl::OkStatus();
  if (!build->is_object()) return Bad("b_info is no object");
  for (const auto& [name, value] : build->items()) {
    if (absl::StartsWith(name, "type.") && name != absl::StrCat("type.", type)) {
      return Bad(absl::StrCat("a guest of type ", type, " is built as one of another"));
    }
  }
  return absl::OkStatus();
}

// An object for each element of the list at `key`; a missing list has none.
absl::StatusOr<std::vector<Json*>> ObjectsAt(Json& config, const char* key) {
  std::vector<Json*> objects;
  const auto list = config.find(key);
  if (list == config.end()) return objects;
  if (!list->is_array()) return Bad(absl::StrCat(key, " is not a list"));
  for (Json& element : *list) {
    if (!element.is_object()) return Bad(absl::StrCat(key, " has an element that is no object"));
    objects.push_back(&element);
  }
  return objects;
}

// Names become part of paths in the store and of messages.
bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isgraph(c) && c != '/'; });
}

}  // namespace

absl::StatusOr<GuestConfig> MapGuestConfig(absl::string_view json, const XenReplicaOptions& options,
                                           bool device_model) {
  HAVEN_ASSIGN_OR_RETURN(Json config, Parse(json));
  HAVEN_RETURN_IF_ERROR(CheckType(config, device_model));
  Json& c_info = config["c_info"];
  GuestConfig guest;
  guest.name = options.name.empty() ? TextAt(c_info, "name") : options.name;
  if (!IsName(guest.name)) {
    return Bad("its name must be 1 .. 127 printable characters without / and spaces");
  }
  c_info["name"] = guest.name;
  c_info.erase("domid");  // The toolstack chooses a free one.
  HAVEN_ASSIGN_OR_RETURN(const std::vector<Json*> nics, ObjectsAt(config, "nics"));
  for (Json* nic : nics) {
    Replace(*nic, "bridge", options.bridges);
    GuestNic& known = guest.nics.emplace_back();
    known.bridge = TextAt(*nic, "bridge");
    HAVEN_RETURN_IF_ERROR(ParseMac(TextAt(*nic, "mac"), known.mac));
  }
  HAVEN_ASSIGN_OR_RETURN(const std::vector<Json*> disks, ObjectsAt(config, "disks"));
  for (Json* disk : disks) Replace(*disk, "pdev_path", options.disks);
  const std::vector<std::string> reasons =
      device_model ? ReasonsAgainstHvm(config) : ReasonsAgainstPvh(config);
  if (!reasons.empty()) return Bad(absl::StrJoin(reasons, "; "));
  if (device_model) {
    guest.kernel = TextAt(config["b_info"], "kernel");
    guest.ramdisk = TextAt(config["b_info"], "ramdisk");
  }
  guest.json = config.dump(-1, ' ', true, Json::error_handler_t::replace);
  return guest;
}

}  // namespace haven
