// SPDX-License-Identifier: Apache-2.0
//
// Input: an operator's words for what differs for copies on a host.
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "xen/backup/replica_options.h"

namespace haven {
namespace {

void RunOne(absl::string_view input) {
  const absl::StatusOr<XenReplicaOptions> parsed = ParseXenReplicaOptions(input);
  if (!parsed.ok()) return;
  std::string said;
  const auto say = [&said](absl::string_view key, absl::string_view value) {
    HAVEN_CHECK(!value.empty());
    absl::StrAppend(&said, said.empty() ? "" : ",", key, "=", value);
  };
  if (!parsed->name.empty()) say("name", parsed->name);
  for (const auto& [there, here] : parsed->bridges) say(absl::StrCat("bridge:", there), here);
  for (const auto& [there, here] : parsed->disks) say(absl::StrCat("disk:", there), here);
  const absl::StatusOr<XenReplicaOptions> again = ParseXenReplicaOptions(said);
  HAVEN_CHECK_OK(again);
  HAVEN_CHECK(again->name == parsed->name && again->bridges == parsed->bridges &&
              again->disks == parsed->disks);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
