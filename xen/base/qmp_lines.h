// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_QMP_LINES_H_
#define HAVEN_XEN_BASE_QMP_LINES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// What QEMU says in its machine protocol, taken apart without any I/O.

struct QmpAnswer {
  uint64_t id = 0;
  bool ok = false;         // It has "return"; else "error".
  absl::string_view text;  // The whole line without its end.
};

struct QmpLine {
  enum class Kind : uint8_t { kAnswer, kEvent, kStrange };
  Kind kind = Kind::kStrange;
  QmpAnswer answer;  // Of a kAnswer.
};

// Tells lines apart by the members of their one object, and looks at nothing but nesting, strings
// and the id: QEMU's JSON is taken for good where that does not matter. Allocates nothing.
QmpLine ReadQmpLine(absl::string_view line);

// The version and package out of a greeting, as QmpChannel::version() has it. InvalidArgument.
absl::StatusOr<std::string> QmpVersion(absl::string_view greeting);

// QEMU's run state out of its answer to query-status ("running", "paused", "inmigrate"), printable.
// InvalidArgument.
absl::StatusOr<std::string> QmpRunState(absl::string_view answer);

// The beginning of a line, printable.
std::string QuotedQmpLine(absl::string_view line);
// InvalidArgument that quotes it.
absl::Status StrangeQmpLine(absl::string_view line);

// Makes lines of what is received in pieces. Allocates nothing. Thread-compatible.
class QmpLines {
 public:
  // With its end.
  static constexpr size_t kMaxLineBytes = size_t{64} << 10;

  // The next whole line, without its end and white space before that; until the next call of a
  // member that is not const.
  std::optional<absl::string_view> Take();

  // Once Take() finds none: where the next bytes belong. Empty: the line is too long, for good.
  std::span<char> Room() { return std::span(buffer_).subspan(end_); }
  // So many of them are there.
  void Add(size_t bytes);

  // What is there and not taken.
  absl::string_view rest() const { return {buffer_.data() + begin_, end_ - begin_}; }

 private:
  std::array<char, kMaxLineBytes> buffer_;
  size_t begin_ = 0;  // Of the rest.
  size_t end_ = 0;
  size_t scanned_ = 0;  // Of the rest, without finding the end of a line.
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_QMP_LINES_H_
