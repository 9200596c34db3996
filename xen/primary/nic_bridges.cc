// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/nic_bridges.h"

#include "absl/strings/match.h"
#include "nlohmann/json.hpp"

namespace haven {

namespace {

using Json = nlohmann::json;

std::string TextAt(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// By the toolstack's own script, or the one for Open vSwitch.
bool IsOnABridge(const Json& nic) {
  const std::string script = TextAt(nic, "script");
  return script.empty() || absl::EndsWith(script, "vif-bridge") ||
         absl::EndsWith(script, "vif-openvswitch");
}

}  // namespace

std::string WithBridges(absl::string_view config_json,
                        const std::function<std::string(uint64_t nic)>& bridge_of) {
  Json config =
      Json::parse(config_json.begin(), config_json.end(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return std::string(config_json);
  const auto nics = config.find("nics");
  if (nics == config.end() || !nics->is_array()) return std::string(config_json);
  for (Json& nic : *nics) {
    if (!nic.is_object() || !IsOnABridge(nic) || !TextAt(nic, "bridge").empty()) continue;
    const auto number = nic.find("devid");
    if (number == nic.end() || !number->is_number_unsigned()) continue;
    const std::string bridge = bridge_of(number->get<uint64_t>());
    if (!bridge.empty()) nic["bridge"] = bridge;
  }
  return config.dump();
}

}  // namespace haven
