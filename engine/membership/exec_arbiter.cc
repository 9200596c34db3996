// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/exec_arbiter.h"

#include <cstring>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {
namespace {

constexpr int kExitGranted = 0;
constexpr int kExitDenied = 1;

// The program's own words, on one line.
std::string Diagnostics(const ChildResult& result) {
  const absl::string_view text = absl::StripAsciiWhitespace(result.diagnostics);
  if (text.empty()) return "; it wrote nothing to stderr";
  return absl::StrCat("; its stderr begins: '", absl::CHexEscape(text), "'");
}

// The exit code of a run that ended by itself.
absl::StatusOr<int> ExitCode(const ChildResult& result, const Deadline& deadline) {
  switch (result.end) {
    case ChildResult::End::kExited:
      return result.code;
    case ChildResult::End::kSignaled:
      return absl::UnavailableError(absl::StrCat("the program was ended by signal ", result.code,
                                                 " (", strsignal(result.code), ")",
                                                 Diagnostics(result)));
    case ChildResult::End::kTimedOut:
      return absl::DeadlineExceededError(absl::StrCat("the program did not end within ",
                                                      absl::FormatDuration(deadline.timeout()),
                                                      " and was killed", Diagnostics(result)));
    case ChildResult::End::kTooMuchOutput:
      return absl::ResourceExhaustedError(
          absl::StrCat("the program printed more than ", ChildRunner::kOutputBytes,
                       " bytes and was killed: it must print one line", Diagnostics(result)));
  }
  return absl::InternalError("the program's run ended in no known way");
}

absl::StatusOr<std::optional<Register>> ParseOutput(const ChildResult& result) {
  absl::string_view line = result.output;
  if (line.empty() || line.back() != '\n') {
    return absl::DataLossError(absl::StrCat(
        "the program exited with ", result.code,
        " without printing a whole line: it must print the register, or 'absent', and a newline",
        Diagnostics(result)));
  }
  line.remove_suffix(1);
  absl::StatusOr<std::optional<Register>> value = ParseRegisterOrAbsent(line);
  if (!value.ok()) {
    return absl::DataLossError(absl::StrCat(
        "the program printed no register: ", value.status().message(), Diagnostics(result)));
  }
  return value;
}

absl::Status WrongExitCode(const ChildResult& result, absl::string_view allowed) {
  return absl::UnavailableError(absl::StrCat("the program exited with ", result.code, " (", allowed,
                                             ")", Diagnostics(result)));
}

absl::StatusOr<RegisterAnswer> RunRead(ChildRunner& runner, const std::string& program,
                                       absl::string_view group, const Deadline& deadline) {
  HAVEN_RETURN_IF_ERROR(ValidateGroupName(group));
  HAVEN_ASSIGN_OR_RETURN(const ChildResult result,
                         runner.Run({program, "read", std::string(group)}, "", deadline));
  HAVEN_ASSIGN_OR_RETURN(const int code, ExitCode(result, deadline));
  if (code != kExitGranted) return WrongExitCode(result, "0 means: the register was read");
  HAVEN_ASSIGN_OR_RETURN(std::optional<Register> current, ParseOutput(result));
  return GrantedAnswer(std::move(current));
}

absl::StatusOr<RegisterAnswer> RunChange(ChildRunner& runner, const std::string& program,
                                         absl::string_view group, const RegisterRequest& request,
                                         const Deadline& deadline) {
  HAVEN_RETURN_IF_ERROR(ValidateGroupName(group));
  HAVEN_RETURN_IF_ERROR(ValidateRequest(request));
  const std::string input = absl::StrCat(FormatRegisterOrAbsent(request.expected), "\n",
                                         FormatRegister(request.desired), "\n");
  HAVEN_ASSIGN_OR_RETURN(const ChildResult result,
                         runner.Run({program, "cas", std::string(group)}, input, deadline));
  HAVEN_ASSIGN_OR_RETURN(const int code, ExitCode(result, deadline));
  if (code != kExitGranted && code != kExitDenied) {
    return WrongExitCode(result, "0 means granted, 1 means denied");
  }
  HAVEN_ASSIGN_OR_RETURN(const std::optional<Register> current, ParseOutput(result));
  if (code == kExitDenied) return AnswerAfterRefusal(current, request);
  if (current == request.desired) return GrantedAnswer(current);
  return absl::InternalError(absl::StrCat(
      "the program says granted (exit code 0) and prints another register than the desired one: '",
      FormatRegisterOrAbsent(current), "' instead of '", FormatRegister(request.desired), "'"));
}

}  // namespace

ExecArbiter::ExecArbiter(std::string program) : program_(std::move(program)) {}

RegisterAnswer ExecArbiter::Read(absl::string_view group, absl::Duration timeout) {
  return AnswerOrUnknown(Describe(), group, RunRead(runner_, program_, group, Deadline(timeout)));
}

RegisterAnswer ExecArbiter::CompareAndSet(absl::string_view group, const RegisterRequest& request,
                                          absl::Duration timeout) {
  return AnswerOrUnknown(Describe(), group,
                         RunChange(runner_, program_, group, request, Deadline(timeout)));
}

std::string ExecArbiter::Describe() const { return absl::StrCat("exec:", program_); }

}  // namespace haven
