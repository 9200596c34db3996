// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/format_error.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace haven {

absl::Status FieldError(absl::string_view what, absl::string_view field, uint64_t value,
                        absl::string_view rule) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": ", field, " is ", value, ", must be ", rule));
}

absl::Status FieldError(absl::string_view what, absl::string_view field, uint64_t value,
                        absl::string_view rule, uint64_t bound) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": ", field, " is ", value, ", must be ", rule, " ", bound));
}

absl::Status CrcError(absl::string_view what, absl::string_view field, uint32_t stored,
                      uint32_t computed) {
  return absl::DataLossError(
      absl::StrFormat("%s: %s is 0x%08x, the bytes have 0x%08x", what, field, stored, computed));
}

absl::Status NeverWrittenError(absl::string_view what) {
  return absl::NotFoundError(absl::StrCat(what, ": never written"));
}

absl::Status ReservedError(absl::string_view what, uint64_t offset, uint8_t value) {
  return FieldError(what, absl::StrCat("reserved byte at offset ", offset), value, "0");
}

absl::Status At(absl::string_view where, const absl::Status& error) {
  return absl::Status(error.code(), absl::StrCat(where, ": ", error.message()));
}

}  // namespace haven
