// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_manual_request.h"

#include <array>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {
namespace {

constexpr absl::string_view kAnswerLine = "haven-request1 answer=";

// Takes "`key`VALUE\n" off the front of `bytes` and returns VALUE.
absl::StatusOr<absl::string_view> TakeLine(absl::string_view key, absl::string_view& bytes) {
  const size_t end = bytes.find('\n');
  const absl::string_view line = bytes.substr(0, end);
  if (end == absl::string_view::npos || !absl::StartsWith(line, key)) {
    return absl::DataLossError(absl::StrCat("the request file has '",
                                            absl::CHexEscape(line.substr(0, 80)),
                                            "' where a line '", key, "...' belongs"));
  }
  bytes.remove_prefix(end + 1);
  return line.substr(key.size());
}

absl::Status LineError(absl::string_view key, const absl::Status& error) {
  return absl::DataLossError(
      absl::StrCat("line '", key, "' of the request file: ", error.message()));
}

std::string ExplainOwnerChange(absl::string_view group, const Register& from, const Register& to) {
  if (from.mode == RegisterMode::kNone) {
    return absl::StrFormat(
        "%s asks for group %s, which nobody protects since %s has ended that.\n"
        "If you approve: the guests at %s may be protected under this name. What %s may still "
        "keep\n"
        "under it is stopped, and destroyed once it looks at the register again.\n"
        "Make sure before: that the group's guests do not run at %s any more.\n",
        to.owner, group, from.owner, to.owner, from.owner, from.owner);
  }
  return absl::StrFormat(
      "%s asks to become the owner of group %s in place of %s (term %u after %u).\n"
      "If you approve: the guests run on %s from their last committed epoch. %s is cut off; what\n"
      "still runs there is stopped, its output stays held, and it is destroyed once %s runs.\n"
      "Make sure before: that %s is dead or unreachable, or that you want the guests to leave "
      "it.\n",
      to.owner, group, from.owner, to.term, from.term, to.owner, from.owner, to.owner, from.owner);
}

std::string ExplainModeChange(absl::string_view group, const Register& to) {
  switch (to.mode) {
    case RegisterMode::kPromotable:
      return absl::StrFormat(
          "%s asks to arm the protection of group %s: its backup holds a complete copy.\n"
          "If you approve: the backup of session %016x may ask to take over, and %s releases\n"
          "output only after the backup has committed it.\n"
          "Make sure before: nothing; no guest stops or starts by this.\n",
          to.owner, group, to.session, to.owner);
    case RegisterMode::kSolo:
      return absl::StrFormat(
          "%s asks to run group %s alone, most likely because it has lost its backup.\n"
          "If you approve: its output opens, and no backup may take over until the protection is\n"
          "armed again: if %s dies meanwhile, the guests are lost.\n"
          "Make sure before: that you do not rather want the backup to take over now.\n",
          to.owner, group, to.owner);
    case RegisterMode::kNone:
      break;
  }
  return absl::StrFormat(
      "%s asks to end the protection of group %s.\n"
      "If you approve: its output opens, and no backup may take over.\n"
      "Make sure before: that the end of the protection is intended.\n",
      to.owner, group);
}

}  // namespace

std::string ManualRequestFileName(absl::string_view group, RequestId id) {
  return absl::StrFormat("%s.%016x%s", group, id, kManualRequestSuffix);
}

std::string EncodeManualRequest(absl::string_view directory, absl::string_view group,
                                const RegisterRequest& request, absl::Time asked) {
  const RequestId id = request.desired.stamp;
  std::string content = absl::StrCat(
      kAnswerLine, kManualWait, "\n", "group=", group, "\n",
      "expected=", FormatRegisterOrAbsent(request.expected), "\n",
      "desired=", FormatRegister(request.desired), "\n",
      "asked=", absl::FormatTime(absl::RFC3339_sec, asked, absl::UTCTimeZone()), "\n\n",
      ExplainChange(group, request),
      "If you deny: nothing changes. A denied request can not be approved any more; the engine "
      "may\n"
      "ask again under a new id.\n"
      "Until you answer: whoever asked waits and assumes the worse; output that is held stays "
      "held.\n\nTo answer:\n  ",
      ManualAnswerCommand(directory, group, id, "approve"), "\n  ",
      ManualAnswerCommand(directory, group, id, "deny"), "\n");
  HAVEN_CHECK_LE(content.size(), kManualRequestMaxBytes);
  return content;
}

absl::StatusOr<ManualRequest> DecodeManualRequest(absl::string_view bytes) {
  ManualRequest decoded;
  HAVEN_ASSIGN_OR_RETURN(const absl::string_view answer, TakeLine(kAnswerLine, bytes));
  if (answer != kManualWait && answer != kManualDeny) {
    return absl::DataLossError(absl::StrCat("the request file has the answer '",
                                            absl::CHexEscape(answer.substr(0, 80)),
                                            "', neither wait nor deny"));
  }
  decoded.denied = answer == kManualDeny;
  HAVEN_ASSIGN_OR_RETURN(const absl::string_view group, TakeLine("group=", bytes));
  decoded.group = std::string(group);
  HAVEN_ASSIGN_OR_RETURN(const absl::string_view expected, TakeLine("expected=", bytes));
  HAVEN_ASSIGN_OR_RETURN(const absl::string_view desired, TakeLine("desired=", bytes));
  HAVEN_ASSIGN_OR_RETURN(const absl::string_view asked, TakeLine("asked=", bytes));
  decoded.asked = std::string(asked);
  if (const absl::Status valid = ValidateGroupName(group); !valid.ok()) {
    return LineError("group", valid);
  }
  absl::StatusOr<std::optional<Register>> old_value = ParseRegisterOrAbsent(expected);
  if (!old_value.ok()) return LineError("expected", old_value.status());
  decoded.request.expected = *std::move(old_value);
  absl::StatusOr<Register> new_value = ParseRegister(desired);
  if (!new_value.ok()) return LineError("desired", new_value.status());
  decoded.request.desired = *std::move(new_value);
  if (const absl::Status valid = ValidateRequest(decoded.request); !valid.ok()) {
    return LineError("desired", valid);
  }
  return decoded;
}

size_t ManualAnswerOffset() { return kAnswerLine.size(); }

std::string ManualAnswerCommand(absl::string_view directory, absl::string_view group, RequestId id,
                                absl::string_view answer) {
  return absl::StrFormat("haven-engine arbiter answer manual:%s %s %016x %s", directory, group, id,
                         answer);
}

std::string ExplainChange(absl::string_view group, const RegisterRequest& request) {
  const Register& to = request.desired;
  if (!request.expected.has_value()) {
    return absl::StrFormat(
        "%s asks to create the register of group %s, which does not exist yet.\n"
        "If you approve: %s is its owner, in mode %s.\n"
        "Make sure before: that the guests of this group run on no other host.\n",
        to.owner, group, to.owner, RegisterModeName(to.mode));
  }
  const Register& from = *request.expected;
  if (from.owner != to.owner) return ExplainOwnerChange(group, from, to);
  if (!from.running && to.running) {
    return absl::StrFormat(
        "%s has taken group %s over, has set it up and asks to start it.\n"
        "If you approve: the guests run on %s, and the previous owner destroys its stopped "
        "copies.\n"
        "Make sure before: nothing; the take-over itself has been approved already.\n",
        to.owner, group, to.owner);
  }
  return ExplainModeChange(group, to);
}

}  // namespace haven
