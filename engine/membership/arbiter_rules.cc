// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_rules.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr absl::string_view kAbsent = "absent";

}  // namespace

absl::Status ValidateGroupName(absl::string_view group) {
  const auto error = [group](absl::string_view rule) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group name '", absl::CHexEscape(group.substr(0, kGroupNameMaxBytes + 1)), "': ", rule));
  };
  if (group.empty() || group.size() > kGroupNameMaxBytes) return error("must have 1 to 63 bytes");
  if (!absl::ascii_isalnum(static_cast<unsigned char>(group[0]))) {
    return error("must start with a letter or a digit");
  }
  for (const char c : group) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') {
      return error("has a byte outside [A-Za-z0-9._-]");
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateRequest(const RegisterRequest& request) {
  HAVEN_RETURN_IF_ERROR(ValidateRegister(request.desired));
  if (!request.expected.has_value()) return absl::OkStatus();
  const Register& expected = *request.expected;
  const Register& desired = request.desired;
  HAVEN_RETURN_IF_ERROR(ValidateRegister(expected));
  if (desired.stamp == expected.stamp) {
    return absl::InvalidArgumentError(
        absl::StrFormat("request %016x has the stamp of the value it wants to replace: every "
                        "change needs a new one",
                        desired.stamp));
  }
  if (desired.term < expected.term) {
    return absl::InvalidArgumentError(
        absl::StrFormat("request %016x takes the term back from %u to %u", desired.stamp,
                        expected.term, desired.term));
  }
  if (desired.owner != expected.owner && desired.term == expected.term) {
    return absl::InvalidArgumentError(
        absl::StrFormat("request %016x changes the owner from %s to %s within term %u: a new owner "
                        "needs a new term",
                        desired.stamp, expected.owner, desired.owner, desired.term));
  }
  return absl::OkStatus();
}

std::string FormatRegisterOrAbsent(const std::optional<Register>& value) {
  return value.has_value() ? FormatRegister(*value) : std::string(kAbsent);
}

absl::StatusOr<std::optional<Register>> ParseRegisterOrAbsent(absl::string_view text) {
  if (text == kAbsent) return std::optional<Register>();
  HAVEN_ASSIGN_OR_RETURN(Register value, ParseRegister(text));
  return std::optional<Register>(std::move(value));
}

absl::StatusOr<ChangeStep> DecideChange(const std::optional<Register>& current,
                                        const RegisterRequest& request) {
  if (current.has_value() && current->stamp == request.desired.stamp) {
    if (*current == request.desired) return ChangeStep::kGranted;
    return absl::DataLossError(absl::StrCat(
        "the register carries the stamp of this request with another value: it holds '",
        FormatRegister(*current), "', the request is for '", FormatRegister(request.desired),
        "'; find out who wrote it before you repair it"));
  }
  return current == request.expected ? ChangeStep::kWrite : ChangeStep::kDenied;
}

absl::StatusOr<RegisterAnswer> AnswerAfterRefusal(const std::optional<Register>& current,
                                                  const RegisterRequest& request) {
  HAVEN_ASSIGN_OR_RETURN(const ChangeStep step, DecideChange(current, request));
  switch (step) {
    case ChangeStep::kGranted:
      return GrantedAnswer(current);
    case ChangeStep::kDenied:
      return DeniedAnswer(current);
    case ChangeStep::kWrite:
      break;
  }
  return absl::InternalError(absl::StrFormat(
      "request %016x was refused although the register holds what it expects ('%s')",
      request.desired.stamp, FormatRegisterOrAbsent(current)));
}

RegisterAnswer GrantedAnswer(std::optional<Register> current) {
  return {Verdict::kGranted, std::move(current), absl::OkStatus()};
}

RegisterAnswer DeniedAnswer(std::optional<Register> current) {
  return {Verdict::kDenied, std::move(current), absl::OkStatus()};
}

RegisterAnswer UnknownAnswer(absl::string_view arbiter, absl::string_view group,
                             const absl::Status& cause) {
  HAVEN_CHECK(!cause.ok()) << "an unknown answer needs a cause";
  const absl::string_view shown = group.substr(0, kGroupNameMaxBytes + 1);
  return {Verdict::kUnknown, std::nullopt,
          absl::Status(cause.code(), absl::StrCat("arbiter ", arbiter, ", group ",
                                                  absl::CHexEscape(shown), ": ", cause.message()))};
}

RegisterAnswer AnswerOrUnknown(absl::string_view arbiter, absl::string_view group,
                               absl::StatusOr<RegisterAnswer> result) {
  return result.ok() ? *std::move(result) : UnknownAnswer(arbiter, group, result.status());
}

}  // namespace haven
