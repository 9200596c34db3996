// SPDX-License-Identifier: Apache-2.0
//
// Input: what `xl list -l` prints, or a configuration file of xl.
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "xen/primary/host_actions.h"
#include "xen/primary/refusals.h"

namespace haven {
namespace {

void RunOne(absl::string_view input) {
  XlConfigNames(input, "g1");
  XendomainsSetting(input);
  WritesDisks(input);
  const absl::StatusOr<XenToolstackConfig> parsed = ParseXlList(input);
  if (!parsed.ok()) return;
  HAVEN_CHECK_GT(parsed->max_vcpus, 0u);
  WritesDisks(parsed->json);
  // What was understood can be said again, and means the same.
  const absl::StatusOr<XenToolstackConfig> again =
      ParseXlList(absl::StrCat("[{\"config\":", parsed->json, "}]"));
  HAVEN_CHECK_OK(again);
  HAVEN_CHECK(again->json == parsed->json && again->max_vcpus == parsed->max_vcpus);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
