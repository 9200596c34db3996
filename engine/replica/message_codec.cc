// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/message_codec.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace haven {
namespace {

bool IsAllowed(StringRule rule, char c) {
  switch (rule) {
    case StringRule::kNodeId:
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
    case StringRule::kPrintable:
      return absl::ascii_isprint(static_cast<unsigned char>(c));
    case StringRule::kOpaque:
      return true;
  }
  return false;
}

absl::string_view RuleText(StringRule rule) {
  return rule == StringRule::kNodeId ? "a letter, a digit, '.', '_' or '-'" : "printable ASCII";
}

}  // namespace

std::string FieldPath::Name(absl::string_view field) const {
  std::string name = absl::StrCat(message_, ": ");
  for (size_t i = 0; i < depth_; ++i) {
    absl::StrAppend(&name, levels_[i].list, "[", levels_[i].index, "]");
    if (i + 1 < depth_ || !field.empty()) absl::StrAppend(&name, ".");
  }
  absl::StrAppend(&name, field);
  return name;
}

void FieldPath::Enter(absl::string_view list) {
  HAVEN_CHECK_LT(depth_, kMaxDepth);
  levels_[depth_++] = Level{.list = list, .index = 0};
}

void FieldPath::Require(bool holds, absl::string_view field, uint64_t value,
                        absl::string_view rule) {
  if (holds || !ok()) return;
  status_ =
      absl::InvalidArgumentError(absl::StrCat(Name(field), " is ", value, ", must be ", rule));
}

void FieldPath::RequireOk(absl::string_view field, const absl::Status& status) {
  if (status.ok() || !ok()) return;
  status_ = absl::InvalidArgumentError(absl::StrCat(Name(field), ": ", status.message()));
}

void FieldPath::CheckRange(absl::string_view field, uint64_t value, uint64_t min, uint64_t max) {
  if (value >= min && value <= max) return;
  Require(false, field, value, absl::StrCat(min, " .. ", max));
}

void FieldPath::CheckLength(absl::string_view field, uint64_t length, uint64_t min, uint64_t max) {
  if ((length >= min && length <= max) || !ok()) return;
  status_ = absl::InvalidArgumentError(
      absl::StrCat(Name(field), " has length ", length, ", must be ", min, " .. ", max));
}

void FieldPath::FailShort(absl::string_view field, uint64_t bytes, uint64_t left) {
  if (!ok()) return;
  status_ = absl::InvalidArgumentError(
      absl::StrCat(Name(field), " needs ", bytes, " bytes, ", left, " are left"));
}

void FieldPath::CheckString(absl::string_view field, StringRule rule, absl::string_view value) {
  if (!ok()) return;
  const auto* bad =
      std::find_if_not(value.begin(), value.end(), [rule](char c) { return IsAllowed(rule, c); });
  if (bad == value.end()) return;
  status_ = absl::InvalidArgumentError(
      absl::StrFormat("%s has byte 0x%02x at offset %d, must be %s", Name(field),
                      static_cast<unsigned>(static_cast<unsigned char>(*bad)), bad - value.begin(),
                      RuleText(rule)));
}

void MessageEncoder::PutLengthAnd(std::span<const std::byte> bytes) {
  Put(static_cast<uint32_t>(bytes.size()));
  out_->insert(out_->end(), bytes.begin(), bytes.end());
}

void MessageEncoder::String(absl::string_view field, const std::string& value, size_t min,
                            size_t max, StringRule rule) {
  CheckLength(field, value.size(), min, max);
  CheckString(field, rule, value);
  if (ok()) PutLengthAnd(std::as_bytes(std::span(value)));
}

void MessageEncoder::Text(absl::string_view field, const std::string& value, size_t max) {
  std::string text = value.substr(0, max);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return !IsAllowed(StringRule::kPrintable, c); }, '?');
  String(field, text, 0, max, StringRule::kPrintable);
}

void MessageEncoder::Bytes(absl::string_view field, const std::vector<std::byte>& value,
                           size_t max) {
  CheckLength(field, value.size(), 0, max);
  if (ok()) PutLengthAnd(value);
}

bool MessageDecoder::Available(absl::string_view field, size_t bytes) {
  if (bytes > reader_.remaining()) FailShort(field, bytes, reader_.remaining());
  return ok();
}

std::span<const std::byte> MessageDecoder::GetCounted(absl::string_view field, size_t min,
                                                      size_t max) {
  uint32_t length = 0;
  if (!Get(field, length)) return {};
  CheckLength(field, length, min, max);
  if (!ok() || !Available(field, length)) return {};
  return reader_.GetBytes(length);
}

void MessageDecoder::String(absl::string_view field, std::string& value, size_t min, size_t max,
                            StringRule rule) {
  const std::span<const std::byte> bytes = GetCounted(field, min, max);
  if (!ok()) return;
  value.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CheckString(field, rule, value);
}

void MessageDecoder::Bytes(absl::string_view field, std::vector<std::byte>& value, size_t max) {
  const std::span<const std::byte> bytes = GetCounted(field, 0, max);
  value.assign(bytes.begin(), bytes.end());
}

void MessageDecoder::CheckEnd() {
  Require(reader_.remaining() == 0, "bytes behind the last field", reader_.remaining(), "0");
}

}  // namespace haven
