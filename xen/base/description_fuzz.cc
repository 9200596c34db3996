// SPDX-License-Identifier: Apache-2.0
//
// Input: the description of a guest as a primary sends it.
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "xen/base/description.h"

namespace haven {
namespace {

void RunOne(absl::string_view input) {
  const absl::StatusOr<XenDescription> decoded = DecodeXenDescription(input);
  if (!decoded.ok()) return;
  // What was understood can be said again, and means the same.
  const absl::StatusOr<std::string> again = EncodeXenDescription(*decoded);
  HAVEN_CHECK_OK(again);
  const absl::StatusOr<XenDescription> second = DecodeXenDescription(*again);
  HAVEN_CHECK_OK(second);
  HAVEN_CHECK(*second == *decoded);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
