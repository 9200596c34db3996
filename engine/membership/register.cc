// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/register.h"

#include <array>
#include <cstddef>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr absl::string_view kMagic = "haven1";
constexpr size_t kMaxTextBytes = 512;
constexpr size_t kOwnerMaxBytes = 63;
constexpr size_t kHexDigits = 16;

// The fields in the only order they may have: a value has one text, so an arbiter may compare
// texts.
constexpr std::array<absl::string_view, 6> kFields = {"term",    "owner",   "mode",
                                                      "session", "running", "stamp"};

// Foreign text as it may stand in a message: printable and short.
std::string Quote(absl::string_view text) {
  constexpr size_t kShownBytes = 80;
  const bool cut = text.size() > kShownBytes;
  return absl::StrCat("'", absl::CHexEscape(text.substr(0, kShownBytes)), cut ? "...'" : "'");
}

absl::Status FieldError(absl::string_view field, absl::string_view text, absl::string_view rule) {
  return absl::InvalidArgumentError(
      absl::StrCat("register field ", field, "=", Quote(text), ": ", rule));
}

absl::Status WrongFieldError(absl::string_view token, size_t position) {
  const absl::string_view key = token.substr(0, token.find('='));
  for (size_t i = 0; i < kFields.size(); ++i) {
    if (kFields[i] != key) continue;
    return i < position
               ? absl::InvalidArgumentError(absl::StrCat("register field ", key, " is repeated"))
               : absl::InvalidArgumentError(absl::StrCat("register field ", kFields[position],
                                                         " is missing before ", key));
  }
  return absl::InvalidArgumentError(absl::StrCat("register has an unknown field ", Quote(token)));
}

// The texts after the '=' of each field, in the order of kFields.
absl::StatusOr<std::array<absl::string_view, kFields.size()>> SplitFields(absl::string_view text) {
  const std::vector<absl::string_view> tokens = absl::StrSplit(text, ' ');
  if (tokens[0] != kMagic) {
    return absl::InvalidArgumentError(
        absl::StrCat("register starts with ", Quote(tokens[0]), " instead of '", kMagic, "'"));
  }
  std::array<absl::string_view, kFields.size()> texts;
  for (size_t i = 0; i < kFields.size(); ++i) {
    if (i + 1 >= tokens.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("register field ", kFields[i], " is missing at the end"));
    }
    const absl::string_view token = tokens[i + 1];
    const size_t equals = token.find('=');
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("register has ", Quote(token), " where ", kFields[i], "=... belongs"));
    }
    if (token.substr(0, equals) != kFields[i]) return WrongFieldError(token, i);
    texts[i] = token.substr(equals + 1);
  }
  if (tokens.size() > kFields.size() + 1) {
    return WrongFieldError(tokens[kFields.size() + 1], kFields.size());
  }
  return texts;
}

absl::StatusOr<uint64_t> ParseDecimal(absl::string_view field, absl::string_view text) {
  uint64_t value = 0;
  // The comparison refuses what SimpleAtoi takes besides: signs, spaces and leading zeros.
  if (!absl::SimpleAtoi(text, &value) || absl::StrCat(value) != text) {
    return FieldError(field, text, "not a decimal number from 0 to 18446744073709551615");
  }
  return value;
}

absl::StatusOr<uint64_t> ParseHex(absl::string_view field, absl::string_view text) {
  uint64_t value = 0;
  if (text.size() != kHexDigits || !absl::SimpleHexAtoi(text, &value) ||
      absl::StrFormat("%016x", value) != text) {
    return FieldError(field, text, "not 16 lower-case hexadecimal digits");
  }
  return value;
}

absl::StatusOr<RegisterMode> ParseMode(absl::string_view text) {
  for (const RegisterMode mode :
       {RegisterMode::kNone, RegisterMode::kPromotable, RegisterMode::kSolo}) {
    if (RegisterModeName(mode) == text) return mode;
  }
  return FieldError("mode", text, "not one of none, promotable, solo");
}

absl::StatusOr<bool> ParseYesNo(absl::string_view field, absl::string_view text) {
  if (text == "yes") return true;
  if (text == "no") return false;
  return FieldError(field, text, "not yes or no");
}

}  // namespace

absl::string_view RegisterModeName(RegisterMode mode) {
  switch (mode) {
    case RegisterMode::kNone:
      return "none";
    case RegisterMode::kPromotable:
      return "promotable";
    case RegisterMode::kSolo:
      return "solo";
  }
  return "invalid";
}

std::string FormatRegister(const Register& value) {
  return absl::StrFormat("%s term=%u owner=%s mode=%s session=%016x running=%s stamp=%016x", kMagic,
                         value.term, value.owner, RegisterModeName(value.mode), value.session,
                         value.running ? "yes" : "no", value.stamp);
}

absl::StatusOr<Register> ParseRegister(absl::string_view text) {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "register text has ", text.size(), " bytes, more than ", kMaxTextBytes, ": ", Quote(text)));
  }
  HAVEN_ASSIGN_OR_RETURN(const auto texts, SplitFields(text));
  Register value;
  HAVEN_ASSIGN_OR_RETURN(value.term, ParseDecimal(kFields[0], texts[0]));
  value.owner = std::string(texts[1]);
  HAVEN_ASSIGN_OR_RETURN(value.mode, ParseMode(texts[2]));
  HAVEN_ASSIGN_OR_RETURN(value.session, ParseHex(kFields[3], texts[3]));
  HAVEN_ASSIGN_OR_RETURN(value.running, ParseYesNo(kFields[4], texts[4]));
  HAVEN_ASSIGN_OR_RETURN(value.stamp, ParseHex(kFields[5], texts[5]));
  HAVEN_RETURN_IF_ERROR(ValidateRegister(value));
  return value;
}

absl::Status ValidateRegister(const Register& value) {
  if (value.owner.empty() || value.owner.size() > kOwnerMaxBytes) {
    return FieldError("owner", value.owner, "must have 1 to 63 bytes");
  }
  for (const char c : value.owner) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') {
      return FieldError("owner", value.owner, "has a byte outside [A-Za-z0-9._-]");
    }
  }
  if (RegisterModeName(value.mode) == "invalid") {
    return FieldError("mode", absl::StrCat(static_cast<int>(value.mode)), "no known mode");
  }
  const bool wants_session = value.mode == RegisterMode::kPromotable;
  if (wants_session != (value.session != kNoSession)) {
    return FieldError("session", absl::StrFormat("%016x", value.session),
                      wants_session ? "mode promotable must name a session"
                                    : "only mode promotable names a session");
  }
  if (value.stamp == 0) {
    return FieldError("stamp", absl::StrFormat("%016x", value.stamp), "must not be 0");
  }
  return absl::OkStatus();
}

}  // namespace haven
