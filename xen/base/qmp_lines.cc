// SPDX-License-Identifier: Apache-2.0
#include "xen/base/qmp_lines.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "nlohmann/json.hpp"
#include "xen/base/description.h"

namespace haven {

namespace {

using Json = nlohmann::json;

constexpr size_t kQuotedBytes = 200;
constexpr size_t kNone = absl::string_view::npos;
constexpr absl::string_view kSpace = " \t\r";

// The quote that ends the string which begins at `at`.
size_t EndOfString(absl::string_view line, size_t at) {
  for (size_t i = at + 1; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;  // Whatever it escapes: a quote above all.
    } else if (line[i] == '"') {
      return i;
    }
  }
  return kNone;
}

// The value behind a name that ends before `at`; kNone: that was no name.
size_t ValueAt(absl::string_view line, size_t at) {
  at = line.find_first_not_of(kSpace, at);
  if (at == kNone || line[at] != ':') return kNone;
  return line.find_first_not_of(kSpace, at + 1);
}

// The number that is the value at `at`, nothing less: no 1.5, no "1".
std::optional<uint64_t> NumberAt(absl::string_view line, size_t at) {
  size_t end = at;
  while (end < line.size() && absl::ascii_isdigit(static_cast<unsigned char>(line[end]))) ++end;
  const size_t next = line.find_first_not_of(kSpace, end);
  if (next == kNone || (line[next] != ',' && line[next] != '}')) return std::nullopt;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(line.substr(at, end - at), &number)) return std::nullopt;
  return number;
}

}  // namespace

QmpLine ReadQmpLine(absl::string_view line) {
  if (line.empty() || line.front() != '{' || line.back() != '}') return {};
  bool event = false;
  bool ok = false;
  bool error = false;
  std::optional<uint64_t> id;
  int depth = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '{' || line[i] == '[') {
      ++depth;
    } else if (line[i] == '}' || line[i] == ']') {
      --depth;
    } else if (line[i] == '"') {
      const size_t end = EndOfString(line, i);
      if (end == kNone) return {};
      const absl::string_view name = line.substr(i + 1, end - i - 1);
      i = end;
      const size_t value = depth == 1 ? ValueAt(line, end + 1) : kNone;
      if (value != kNone) {
        event |= name == "event";
        ok |= name == "return";
        error |= name == "error";
        if (name == "id") id = NumberAt(line, value);
      }
    }
    // One object, from the first character to the last.
    if ((depth == 0) != (i + 1 == line.size())) return {};
  }
  if (event) return {.kind = QmpLine::Kind::kEvent, .answer = {}};
  if (ok == error || !id.has_value()) return {};
  return {.kind = QmpLine::Kind::kAnswer, .answer = {.id = *id, .ok = ok, .text = line}};
}

// {"QMP": {"version": {"qemu": {"micro": .., "minor": .., "major": ..}, "package": ".."}, ..}}
absl::StatusOr<std::string> QmpVersion(absl::string_view greeting) {
  const Json json = Json::parse(greeting.begin(), greeting.end(), nullptr, false);
  const Json::json_pointer at("/QMP/version");
  if (!json.is_object() || !json.contains(at) || !json[at].is_object()) {
    return StrangeQmpLine(greeting);
  }
  const Json& version = json[at];
  std::string text;
  for (const char* const part : {"/qemu/major", "/qemu/minor", "/qemu/micro"}) {
    const Json::json_pointer number(part);
    if (!version.contains(number) || !version[number].is_number_unsigned()) {
      return StrangeQmpLine(greeting);
    }
    absl::StrAppend(&text, text.empty() ? "" : ".", version[number].get<uint64_t>());
  }
  const auto package = version.find("package");
  if (package != version.end() && package->is_string()) {
    const auto& name = package->get_ref<const std::string&>();
    if (!name.empty()) absl::StrAppend(&text, " ", QuotedQmpLine(name));
  }
  text.resize(std::min(text.size(), kMaxDeviceModelVersionBytes));
  return text;
}

// {"return": {"status": "running", ..}, ..}
absl::StatusOr<std::string> QmpRunState(absl::string_view answer) {
  const Json json = Json::parse(answer.begin(), answer.end(), nullptr, false);
  const Json::json_pointer at("/return/status");
  if (json.is_object() && json.contains(at) && json[at].is_string()) {
    return QuotedQmpLine(json[at].get_ref<const std::string&>());
  }
  return absl::InvalidArgumentError(
      absl::StrCat("QEMU does not say what it does: ", QuotedQmpLine(answer)));
}

std::string QuotedQmpLine(absl::string_view line) {
  std::string text(line.substr(0, kQuotedBytes));
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return !absl::ascii_isprint(static_cast<unsigned char>(c)); }, '?');
  return text;
}

absl::Status StrangeQmpLine(absl::string_view line) {
  return absl::InvalidArgumentError(
      absl::StrCat("QEMU says what is not its protocol: ", QuotedQmpLine(line)));
}

std::optional<absl::string_view> QmpLines::Take() {
  const absl::string_view left = rest();
  if (const size_t at = left.find('\n', scanned_); at != kNone) {
    begin_ += at + 1;
    scanned_ = 0;
    return absl::StripTrailingAsciiWhitespace(left.substr(0, at));
  }
  scanned_ = left.size();
  // No line is given out now: the rest may move to the front, where a whole line has room.
  if (begin_ > 0) {
    std::memmove(buffer_.data(), left.data(), left.size());
    begin_ = 0;
    end_ = left.size();
  }
  return std::nullopt;
}

void QmpLines::Add(size_t bytes) {
  HAVEN_CHECK_LE(bytes, buffer_.size() - end_);
  end_ += bytes;
}

}  // namespace haven
