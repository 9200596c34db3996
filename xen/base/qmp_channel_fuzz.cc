// SPDX-License-Identifier: Apache-2.0
//
// Input: a byte for how much is received at once (0: as much as there is room for), one for how
// much white space comes first, in units of 257 bytes, which then are those of the first byte too,
// and what QEMU says. The channel itself adds no more than a socket to what is called here. Lines
// are compared with those of the whole text, what they mean with a real JSON parser's opinion.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "nlohmann/json.hpp"
#include "xen/base/description.h"
#include "xen/base/qmp_lines.h"

namespace haven {
namespace {

using Json = nlohmann::json;
using Kind = QmpLine::Kind;

constexpr size_t kUnit = 257;

// What is JSON at all is understood as the parser does, and what is an answer is so in either case.
void CheckMeaning(absl::string_view text) {
  const QmpLine line = ReadQmpLine(text);
  if (line.kind == Kind::kAnswer) {
    HAVEN_CHECK_EQ(line.answer.text, text);
    HAVEN_CHECK(absl::StartsWith(text, "{") && absl::EndsWith(text, "}"));
    HAVEN_CHECK(absl::StrContains(text, line.answer.ok ? "\"return\"" : "\"error\""));
  }
  // QEMU escapes no letters of a name, so we do not look for that; nor does it indent lines. And to
  // the parser a null byte is the end.
  if (!absl::StartsWith(text, "{") || absl::StrContains(text, "\\u")) return;
  if (text.find('\0') != absl::string_view::npos) return;
  const Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object()) return;
  const bool ok = json.contains("return");
  const bool has_id = json.contains("id") && json["id"].is_number_unsigned();
  Kind expected = Kind::kStrange;
  if (json.contains("event")) {
    expected = Kind::kEvent;
  } else if (has_id && ok != json.contains("error")) {
    expected = Kind::kAnswer;
  }
  HAVEN_CHECK(line.kind == expected) << text;
  if (expected != Kind::kAnswer) return;
  HAVEN_CHECK_EQ(line.answer.id, json["id"].get<uint64_t>());
  HAVEN_CHECK_EQ(line.answer.ok, ok);
}

void CheckLine(absl::string_view text) {
  HAVEN_CHECK_LT(text.size(), QmpLines::kMaxLineBytes);
  HAVEN_CHECK(!absl::StrContains(text, "\n"));
  CheckMeaning(text);
  const absl::StatusOr<std::string> version = QmpVersion(text);
  if (!version.ok()) return;
  HAVEN_CHECK_LE(version->size(), kMaxDeviceModelVersionBytes);
  HAVEN_CHECK(std::all_of(version->begin(), version->end(), absl::ascii_isprint));
}

void RunOne(absl::string_view input) {
  if (input.size() < 2) return;
  const size_t spaces = kUnit * static_cast<uint8_t>(input[1]);
  const size_t at_once = static_cast<uint8_t>(input[0]) * (spaces > 0 ? kUnit : 1);
  std::string said(spaces, ' ');
  said.append(input.data() + 2, input.size() - 2);

  QmpLines lines;
  absl::string_view unread = said;  // Not yet received.
  absl::string_view expected = said;
  while (true) {
    if (const std::optional<absl::string_view> line = lines.Take(); line.has_value()) {
      const size_t end = expected.find('\n');
      HAVEN_CHECK_LT(end, QmpLines::kMaxLineBytes);
      HAVEN_CHECK_EQ(*line, absl::StripTrailingAsciiWhitespace(expected.substr(0, end)));
      expected.remove_prefix(end + 1);
      CheckLine(*line);
      continue;
    }
    HAVEN_CHECK_EQ(lines.rest(), expected.substr(0, expected.size() - unread.size()));
    const std::span<char> room = lines.Room();
    if (room.empty()) {
      HAVEN_CHECK_GE(std::min(expected.find('\n'), expected.size()), QmpLines::kMaxLineBytes);
      return;
    }
    if (unread.empty()) break;
    size_t bytes = std::min(room.size(), unread.size());
    if (at_once > 0) bytes = std::min(bytes, at_once);
    std::copy_n(unread.begin(), bytes, room.begin());
    lines.Add(bytes);
    unread.remove_prefix(bytes);
  }
  HAVEN_CHECK(!absl::StrContains(expected, "\n"));
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
