// SPDX-License-Identifier: Apache-2.0
#include "xen/base/config_rules.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace haven {

using Json = nlohmann::json;

const Json& ConfigAt(const Json& object, const char* name) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(name);
  return found == object.end() ? nothing : *found;
}

const Json& ElementsAt(const Json& object, const char* name) {
  static const Json nothing = Json::array();
  const Json& list = ConfigAt(object, name);
  return list.is_array() ? list : nothing;
}

std::string TextAt(const Json& object, const char* name) {
  const Json& text = ConfigAt(object, name);
  return text.is_string() ? text.get<std::string>() : std::string();
}

bool IsFlagUp(const Json& object, const char* name) {
  const Json& flag = ConfigAt(object, name);
  return !flag.is_null() && flag != 0 && flag != false;
}

bool IsUnset(const Json& value) {
  return value.is_null() || value == "" || (value.is_structured() && value.empty());
}

bool IsOneOf(const Json& value, std::initializer_list<const char*> allowed) {
  return value.is_null() || std::any_of(allowed.begin(), allowed.end(),
                                        [&](const char* text) { return value == text; });
}

bool IsPlain(const Json& value, absl::string_view more) {
  if (value.is_null()) return true;
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains(more, c);
  });
}

bool IsPathOrUnset(const Json& value) {
  if (IsUnset(value)) return true;
  if (!value.is_string()) return false;
  const std::string& path = value.get_ref<const std::string&>();
  return path.front() == '/' && std::all_of(path.begin(), path.end(), [](char c) {
           return absl::ascii_isprint(static_cast<unsigned char>(c)) && c != ',';
         });
}

void Want(bool holds, absl::string_view reason, std::vector<std::string>& reasons) {
  if (!holds) reasons.emplace_back(reason);
}

void WantOff(const Json& object, const char* name, absl::string_view reason,
             std::vector<std::string>& reasons) {
  Want(IsOneOf(ConfigAt(object, name), {"False", "<default>"}), reason, reasons);
}

void CheckKnown(const Json& object, const std::set<std::string>& known,
                std::vector<std::string>& reasons) {
  if (!object.is_object()) return;
  for (const auto& [name, value] : object.items()) {
    if (known.contains(name) || IsUnset(value)) continue;
    // Numbers that mean the same when they are 0. No text is as good as none: "False" would be the
    // name of a program.
    if (value == 0 && (name == "device_model_ssidref" || name == "usbversion")) continue;
    reasons.push_back(absl::StrCat(
        "its setting ", absl::CHexEscape(name.substr(0, 64)),
        " makes its device model, or what that reads, another than this host's own, or is not "
        "known to be harmless: start it without"));
  }
}

}  // namespace haven
