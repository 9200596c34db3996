// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/verbs_address.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "transport/tls/inet_address.h"

namespace haven {
namespace {

absl::Status Malformed(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", text, "\": ", why, "; write ", kVerbsAddressForm));
}

}  // namespace

bool IsVerbsAddress(absl::string_view text) { return absl::StartsWith(text, kVerbsScheme); }

absl::StatusOr<VerbsAddress> ParseVerbsAddress(absl::string_view text) {
  absl::string_view rest = text;
  if (!absl::ConsumePrefix(&rest, kVerbsScheme)) {
    return Malformed(text, absl::StrCat("it does not begin with ", kVerbsScheme));
  }
  const std::vector<std::string> fields = absl::StrSplit(rest, ',');
  VerbsAddress address;
  address.host_and_port = fields[0];
  if (fields[0].rfind(':') == std::string::npos) return Malformed(text, "the port is missing");
  for (size_t i = 1; i < fields.size(); ++i) {
    absl::string_view value = fields[i];
    const bool device = absl::ConsumePrefix(&value, "dev=");
    if (!device && !absl::ConsumePrefix(&value, "rail=")) {
      return Malformed(text, absl::StrCat("\"", fields[i], "\" is neither dev= nor rail="));
    }
    std::string& field = device ? address.device : address.rail;
    if (value.empty() || !field.empty()) {
      return Malformed(text, absl::StrCat(device ? "dev=" : "rail=", " is empty or given twice"));
    }
    field = std::string(value);
  }
  if (!address.rail.empty()) HAVEN_RETURN_IF_ERROR(InetAddress::ParseHost(address.rail).status());
  return address;
}

}  // namespace haven
