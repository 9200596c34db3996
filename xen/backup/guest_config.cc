// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/guest_config.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

using Json = nlohmann::json;

// What libxl writes is about 6 deep.
constexpr int kMaxDepth = 32;
constexpr size_t kMaxNameBytes = 127;

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("configuration of a Xen guest: ", what));
}

absl::StatusOr<Json> Parse(absl::string_view text) {
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json config = Json::parse(text.begin(), text.end(), watch, false);
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

// The text at `key`, or "".
std::string TextAt(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
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

absl::Status CheckType(const Json& c_info) {
  const std::string type = TextAt(c_info, "type");
  if (type == "pvh") return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "a copy of a guest of type \"", type.substr(0, 16),
      "\" can not be built: only PVH guests have no device model. Set type=\"pvh\" in its file"));
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

absl::StatusOr<GuestConfig> MapGuestConfig(absl::string_view json,
                                           const XenReplicaOptions& options) {
  HAVEN_ASSIGN_OR_RETURN(Json config, Parse(json));
  Json& c_info = config["c_info"];
  HAVEN_RETURN_IF_ERROR(CheckType(c_info));
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
  guest.json = config.dump(-1, ' ', true, Json::error_handler_t::replace);
  return guest;
}

}  // namespace haven
