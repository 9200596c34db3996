// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_LOG_H_
#define HAVEN_ENGINE_BASE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <sstream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// Levelled log lines on stderr, one line per record:
//
//   2026-11-22T14:05:06.123456Z WARN  membership: guest=web1 epoch=17 heartbeat is 40 ms old
//
// For the control path only; files named *_datapath.cc do not log. Every function here is
// thread-safe.
enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3, kFatal = 4 };

// Records below this level are dropped. kInfo at the start of a process.
void SetLogLevel(LogLevel level);
LogLevel GetLogLevel();

// "debug", "info", "warning", "error" or "fatal"; InvalidArgumentError names anything else and the
// choices.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view name);

// A record is at most this long, including its newline, so that write(2) to a pipe does not
// interleave two of them (PIPE_BUF). What is longer is cut and ends with "...".
inline constexpr size_t kLogLineMaxBytes = 4096;

// Formats one record with a wall-clock time in nanoseconds since 1970 into `line` and returns its
// length. Control characters of `component` and `message` are written as \n, \t or \xNN: text from
// a peer can not forge a record. Takes no lock and allocates nothing. `line` has room for at least
// 128 bytes.
size_t FormatLogLine(std::span<char> line, LogLevel level, int64_t wall_ns,
                     absl::string_view component, absl::string_view message);

// Writes one record whatever the level is set to, by a single write(2), without locks or
// allocation: callable from a signal handler. errno is preserved. Does not wait for a reader: a
// record for which a pipe has no room is dropped, and the next one that finds room says how many
// were.
void WriteLogLine(LogLevel level, absl::string_view component, absl::string_view message);

namespace log_internal {

// Collects what is streamed and writes it when the statement ends.
class LogMessage {
 public:
  LogMessage(LogLevel level, absl::string_view component) : level_(level), component_(component) {}
  ~LogMessage() { WriteLogLine(level_, component_, stream_.str()); }
  LogMessage(const LogMessage&) = delete;
  LogMessage& operator=(const LogMessage&) = delete;

  std::ostream& stream() { return stream_; }

 private:
  const LogLevel level_;
  const absl::string_view component_;
  std::ostringstream stream_;
};

// Makes both branches of the conditional in HAVEN_LOG void; & binds weaker than <<.
struct Voidify {
  void operator&(const std::ostream&) const {}
};

}  // namespace log_internal
}  // namespace haven

// HAVEN_LOG(kWarning, "membership") << "guest=" << guest << " heartbeat is late";
// The streamed operands are not evaluated when the level is off. `component` outlives the
// statement.
#define HAVEN_LOG(level, component)                   \
  (::haven::LogLevel::level < ::haven::GetLogLevel()) \
      ? static_cast<void>(0)                          \
      : ::haven::log_internal::Voidify() &            \
            ::haven::log_internal::LogMessage(::haven::LogLevel::level, (component)).stream()

#endif  // HAVEN_ENGINE_BASE_LOG_H_
