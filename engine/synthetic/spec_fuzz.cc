// SPDX-License-Identifier: Apache-2.0
//
// Input: the text of a spec, which a peer sends as DomainInfo::config.
#include <cstdint>
#include <string>

#include "engine/base/check.h"
#include "engine/synthetic/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  haven::SyntheticSpec spec;
  haven::OverrideSyntheticSpec(text, spec).IgnoreError();
  const absl::StatusOr<haven::SyntheticSpec> parsed = haven::ParseSyntheticSpec(text);
  if (!parsed.ok()) return 0;
  const absl::StatusOr<haven::SyntheticSpec> again =
      haven::ParseSyntheticSpec(haven::FormatSyntheticSpec(*parsed));
  HAVEN_CHECK_OK(again);
  HAVEN_CHECK(*again == *parsed) << haven::FormatSyntheticSpec(*parsed);
  return 0;
}
