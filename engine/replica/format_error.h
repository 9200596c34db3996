// SPDX-License-Identifier: Apache-2.0
//
// The errors of the format decoders, built out of line so that the data path stays free of them.
#ifndef HAVEN_ENGINE_REPLICA_FORMAT_ERROR_H_
#define HAVEN_ENGINE_REPLICA_FORMAT_ERROR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace haven {

// InvalidArgument "<what>: <field> is <value>, must be <rule>".
[[gnu::cold]] absl::Status FieldError(absl::string_view what, absl::string_view field,
                                      uint64_t value, absl::string_view rule);

// The same with a number behind the rule: "... must be <rule> <bound>".
[[gnu::cold]] absl::Status FieldError(absl::string_view what, absl::string_view field,
                                      uint64_t value, absl::string_view rule, uint64_t bound);

// DataLoss "<what>: <field> is 0x<stored>, the bytes have 0x<computed>".
[[gnu::cold]] absl::Status CrcError(absl::string_view what, absl::string_view field,
                                    uint32_t stored, uint32_t computed);

// NotFound "<what>: never written".
[[gnu::cold]] absl::Status NeverWrittenError(absl::string_view what);

// InvalidArgument "<what>: reserved byte at offset <offset> is <value>, must be 0".
[[gnu::cold]] absl::Status ReservedError(absl::string_view what, uint64_t offset, uint8_t value);

// The same error with "<where>: " in front of its message.
[[gnu::cold]] absl::Status At(absl::string_view where, const absl::Status& error);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_FORMAT_ERROR_H_
