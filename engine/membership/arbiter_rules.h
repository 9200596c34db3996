// SPDX-License-Identifier: Apache-2.0
//
// What every arbiter decides alike, whatever keeps its register.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_RULES_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_RULES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/register.h"

namespace haven {

inline constexpr size_t kGroupNameMaxBytes = 63;

// InvalidArgument unless `group` has 1 to 63 bytes of [A-Za-z0-9._-] and starts with a letter or a
// digit: it becomes a file name, an argument of a program and an etcd key, and must not be able to
// leave its directory or to look like an option.
absl::Status ValidateGroupName(absl::string_view group);

// InvalidArgument unless both values are valid, the stamp is a new one, the term does not go back,
// and a change of owner has a new term.
absl::Status ValidateRequest(const RegisterRequest& request);

// FormatRegister's text, or "absent" where there is no register; and back. Errors: ParseRegister's.
std::string FormatRegisterOrAbsent(const std::optional<Register>& value);
absl::StatusOr<std::optional<Register>> ParseRegisterOrAbsent(absl::string_view text);

// What to do with a valid request when the register holds `current`.
enum class ChangeStep : uint8_t {
  kWrite,    // It holds what the request expects: write `desired`.
  kGranted,  // It holds `desired` already: an earlier try of this request wrote it.
  kDenied,   // It holds something else.
};

// DataLoss: the register carries this request's stamp with another value, which no arbiter that
// keeps the contract can show.
absl::StatusOr<ChangeStep> DecideChange(const std::optional<Register>& current,
                                        const RegisterRequest& request);

// For arbiters that have asked for the change and were shown the register afterwards: what
// DecideChange says of a request that was refused. Internal: the register still holds what the
// request expects, so that there was no reason to refuse it.
absl::StatusOr<RegisterAnswer> AnswerAfterRefusal(const std::optional<Register>& current,
                                                  const RegisterRequest& request);

RegisterAnswer GrantedAnswer(std::optional<Register> current);
RegisterAnswer DeniedAnswer(std::optional<Register> current);

// kUnknown with `cause`, which is not OK, under the same code and with the arbiter and the group in
// front of the message.
RegisterAnswer UnknownAnswer(absl::string_view arbiter, absl::string_view group,
                             const absl::Status& cause);

// `result` as an answer; an error is kUnknown.
RegisterAnswer AnswerOrUnknown(absl::string_view arbiter, absl::string_view group,
                               absl::StatusOr<RegisterAnswer> result);

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_RULES_H_
