// SPDX-License-Identifier: Apache-2.0
#include "engine/base/log.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"

namespace haven {
namespace {

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
static_assert(std::atomic<int>::is_always_lock_free, "read in signal handlers");

// Records that nobody took since the last one that was written.
std::atomic<uint64_t> g_dropped{0};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "used in signal handlers");

// A pipe whose reader has stopped must not stop this process: it has room for a whole record, or
// the record is dropped.
bool HasRoom() {
  pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  return poll(&log, 1, 0) == 1 && (log.revents & POLLOUT) != 0;
}

void WriteLine(std::span<const char> line) {
  // A log that can not be written has nowhere to complain, so every error but an interruption drops
  // the record.
  while (write(STDERR_FILENO, line.data(), line.size()) < 0 && errno == EINTR) {
  }
}

constexpr absl::string_view kEllipsis = "...";
constexpr size_t kLineMinBytes = 128;

// Appends to a buffer of fixed size and drops what does not fit.
class LineBuffer {
 public:
  explicit LineBuffer(std::span<char> room) : room_(room) {}

  void Append(char c) {
    if (size_ < room_.size()) {
      room_[size_++] = c;
    } else {
      overflow_ = true;
    }
  }

  void Append(absl::string_view text) {
    for (const char c : text) Append(c);
  }

  // `value` with leading zeros to `width` digits.
  void AppendDecimal(int64_t value, int width) {
    int64_t divisor = 1;
    for (int i = 1; i < width; ++i) divisor *= 10;
    for (; divisor > 0; divisor /= 10) Append(static_cast<char>('0' + value / divisor % 10));
  }

  void AppendNumber(uint64_t value) {
    char digits[20];
    size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value > 0);
    while (count > 0) Append(digits[--count]);
  }

  void AppendEscaped(absl::string_view text) {
    constexpr absl::string_view kHex = "0123456789abcdef";
    for (const char c : text) {
      const unsigned char byte = static_cast<unsigned char>(c);
      if (byte >= 0x20 && byte != 0x7f) {
        Append(c);
      } else if (c == '\n') {
        Append("\\n");
      } else if (c == '\t') {
        Append("\\t");
      } else {
        Append("\\x");
        Append(kHex[byte >> 4]);
        Append(kHex[byte & 0xf]);
      }
    }
  }

  absl::string_view text() const { return {room_.data(), size_}; }

  // Ends the line; a line that was cut shows it.
  size_t Finish() {
    if (size_ == room_.size() || overflow_) {
      size_ = room_.size() - kEllipsis.size() - 1;
      overflow_ = false;
      Append(kEllipsis);
    }
    Append('\n');
    return size_;
  }

 private:
  std::span<char> room_;
  size_t size_ = 0;
  bool overflow_ = false;
};

// gmtime_r takes a lock in the C library, so the date is computed here. Algorithm: Howard Hinnant,
// "chrono-Compatible Low-Level Date Algorithms", civil_from_days, for days since 1970-01-01 that
// are not negative.
void AppendUtcTime(LineBuffer& line, int64_t wall_ns) {
  const int64_t wall_us = std::max<int64_t>(wall_ns, 0) / 1000;
  const int64_t seconds = wall_us / 1'000'000;
  const int64_t second_of_day = seconds % 86'400;
  const int64_t days = seconds / 86'400 + 719'468;
  const int64_t era = days / 146'097;
  const int64_t day_of_era = days % 146'097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted_month = (5 * day_of_year + 2) / 153;
  const int64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  const int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  const int64_t year = era * 400 + year_of_era + (month <= 2 ? 1 : 0);
  line.AppendDecimal(year, 4);
  line.Append('-');
  line.AppendDecimal(month, 2);
  line.Append('-');
  line.AppendDecimal(day, 2);
  line.Append('T');
  line.AppendDecimal(second_of_day / 3600, 2);
  line.Append(':');
  line.AppendDecimal(second_of_day / 60 % 60, 2);
  line.Append(':');
  line.AppendDecimal(second_of_day % 60, 2);
  line.Append('.');
  line.AppendDecimal(wall_us % 1'000'000, 6);
  line.Append('Z');
}

// Padded to one width, so that the components stand in one column.
absl::string_view LevelLabel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "DEBUG";
    case LogLevel::kInfo:
      return "INFO ";
    case LogLevel::kWarning:
      return "WARN ";
    case LogLevel::kError:
      return "ERROR";
    case LogLevel::kFatal:
      return "FATAL";
  }
  return "?    ";
}

}  // namespace

void SetLogLevel(LogLevel level) {
  g_level.store(static_cast<int>(level), std::memory_order_relaxed);
}

LogLevel GetLogLevel() { return static_cast<LogLevel>(g_level.load(std::memory_order_relaxed)); }

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == "fatal") return LogLevel::kFatal;
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown log level \"", name, "\": use one of debug, info, warning, error, fatal"));
}

size_t FormatLogLine(std::span<char> line, LogLevel level, int64_t wall_ns,
                     absl::string_view component, absl::string_view message) {
  if (line.size() < kLineMinBytes) return 0;
  LineBuffer buffer(line);
  AppendUtcTime(buffer, wall_ns);
  buffer.Append(' ');
  buffer.Append(LevelLabel(level));
  buffer.Append(' ');
  buffer.AppendEscaped(component);
  buffer.Append(": ");
  buffer.AppendEscaped(message);
  return buffer.Finish();
}

void WriteLogLine(LogLevel level, absl::string_view component, absl::string_view message) {
  const int saved_errno = errno;
  char line[kLogLineMaxBytes];
  const int64_t wall_ns = SystemClock::Get().WallNs();
  if (!HasRoom()) {
    g_dropped.fetch_add(1, std::memory_order_relaxed);
    errno = saved_errno;
    return;
  }
  const uint64_t dropped = g_dropped.exchange(0, std::memory_order_relaxed);
  if (dropped > 0) {
    char note[kLineMinBytes];
    LineBuffer text(note);
    text.AppendNumber(dropped);
    text.Append(" records dropped: the log was not read");
    const size_t size = FormatLogLine(line, LogLevel::kWarning, wall_ns, "log", text.text());
    WriteLine(std::span(line).first(size));
    if (!HasRoom()) {
      g_dropped.fetch_add(1, std::memory_order_relaxed);
      errno = saved_errno;
      return;
    }
  }
  const size_t size = FormatLogLine(line, level, wall_ns, component, message);
  WriteLine(std::span(line).first(size));
  errno = saved_errno;
}

}  // namespace haven
