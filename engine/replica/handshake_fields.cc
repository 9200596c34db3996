// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/handshake_fields.h"

#include "absl/strings/str_cat.h"

namespace haven {

absl::Status CheckUuid(absl::string_view uuid) {
  constexpr absl::string_view kPattern = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  static_assert(kPattern.size() == kUuidBytes);
  bool good = uuid.size() == kPattern.size();
  for (size_t i = 0; good && i < kPattern.size(); ++i) {
    const char c = uuid[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    good = kPattern[i] == 'x' ? hex : c == kPattern[i];
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", uuid, "\" must be 8-4-4-4-12 lower-case hexadecimal digits"));
}

absl::Status CheckDistinct(const std::vector<HelloDomain>& domains) {
  for (size_t i = 0; i < domains.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (domains[i].name == domains[j].name) {
        return absl::InvalidArgumentError(
            absl::StrCat("name \"", domains[i].name, "\" must be there only once"));
      }
      if (domains[i].uuid == domains[j].uuid) {
        return absl::InvalidArgumentError(
            absl::StrCat("uuid \"", domains[i].uuid, "\" must be there only once"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace haven
