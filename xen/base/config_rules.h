// SPDX-License-Identifier: Apache-2.0
//
// What rules about a toolstack's configuration of a guest are made of (`xl list -l`, Xen 4.17). It
// may come from the network: any value may be of any type. Thread-safe.
#ifndef HAVEN_XEN_BASE_CONFIG_RULES_H_
#define HAVEN_XEN_BASE_CONFIG_RULES_H_

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace haven {

// What is at `name`, or null; also if `object` is none.
const nlohmann::json& ConfigAt(const nlohmann::json& object, const char* name);

// The list at `name`, or an empty one.
const nlohmann::json& ElementsAt(const nlohmann::json& object, const char* name);

// The text at `name`, or an empty one.
std::string TextAt(const nlohmann::json& object, const char* name);

// The flag at `name` is up: there, and neither 0 nor false.
bool IsFlagUp(const nlohmann::json& object, const char* name);

// Nothing is set, as the toolstack reads it.
bool IsUnset(const nlohmann::json& value);

// Set to one of these texts, or null. The toolstack compares loosely ("TRUE", "True or not"), so no
// other text will do.
bool IsOneOf(const nlohmann::json& value, std::initializer_list<const char*> allowed);

// A text of nothing but letters, digits and `more`, or null.
bool IsPlain(const nlohmann::json& value, absl::string_view more);

// An absolute path without a comma, which ends a value among QEMU's options, or unset.
bool IsPathOrUnset(const nlohmann::json& value);

// Adds `reason` unless it `holds`.
void Want(bool holds, absl::string_view reason, std::vector<std::string>& reasons);

// Adds `reason` unless the switch at `name`, "True", "False" or "<default>", is off or not there.
void WantOff(const nlohmann::json& object, const char* name, absl::string_view reason,
             std::vector<std::string>& reasons);

// Adds a reason for each setting in `object` that is set and not `known`.
void CheckKnown(const nlohmann::json& object, const std::set<std::string>& known,
                std::vector<std::string>& reasons);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_CONFIG_RULES_H_
