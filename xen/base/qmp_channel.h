// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_QMP_CHANNEL_H_
#define HAVEN_XEN_BASE_QMP_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"
#include "engine/control/time_limit.h"
#include "xen/base/qmp_lines.h"

namespace haven {

// One of the two sockets on which libxl has a guest's QEMU serve its machine protocol, and the one
// that libxl itself has no use for. QEMU serves one client at a time on it; others wait.
std::string QmpSocketPath(uint32_t domid);

// A client of QEMU's machine protocol (docs/interop/qmp-spec of QEMU 7.2): lines of JSON, commands
// one way, answers and events the other. Commands are carried out in their order, so several may be
// sent at once; none behind one that hands over a descriptor. Answers are told apart by their id.
// Allocates nothing after Connect() but in Call() and in errors. One thread.
class QmpChannel {
 public:
  // Connects, reads the greeting and negotiates. Unavailable: nobody listens at `path`, or it hung
  // up; InvalidArgument: what it says is not the protocol; DeadlineExceeded: it serves somebody
  // else, or stands still; Internal: it refuses to negotiate.
  static absl::StatusOr<std::unique_ptr<QmpChannel>> Connect(const std::string& path,
                                                             const TimeLimit& limit);

  // QEMU's version and package out of its greeting, printable, at most 128 bytes: "7.2.22 Debian
  // 1:7.2+dfsg-7". With the numbers alone before the first space.
  const std::string& version() const { return version_; }

  // Sends commands, each a line that ends with "\r\n" and has an id of its own; `fd`, unless
  // negative, goes along with them. Does not block. Unavailable, for good: it is gone, or has not
  // read what it was sent before.
  absl::Status Send(absl::string_view commands, int fd = -1);

  // Its text until the next call.
  using Answer = QmpAnswer;
  // The next answer if there is one; events are left out. Does not block. Unavailable, for good: it
  // has hung up. InvalidArgument, for good: a line that is none of the protocol, or is longer than
  // kMaxLineBytes with its end. What it said before either is given out first.
  static constexpr size_t kMaxLineBytes = QmpLines::kMaxLineBytes;
  absl::StatusOr<std::optional<Answer>> Next();

  // The same, waiting for it: DeadlineExceeded.
  absl::StatusOr<Answer> Wait(const TimeLimit& limit);

  // Sends one command and waits for its answer, which is OK; answers to others before it are
  // dropped. Errors as above; Internal: it answers with an error, in its words. `name` is one of
  // the protocol, `arguments` JSON or empty.
  absl::StatusOr<std::string> Call(absl::string_view name, absl::string_view arguments,
                                   const TimeLimit& limit, int fd = -1);

  // What QEMU does now, as QmpRunState(). Errors as of Call(); InvalidArgument also: it does not
  // say.
  absl::StatusOr<std::string> RunState(const TimeLimit& limit);

  // Readable when Next() may have something.
  int fd() const { return socket_.get(); }

 private:
  explicit QmpChannel(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::StatusOr<std::optional<absl::string_view>> NextLine();
  absl::StatusOr<absl::string_view> WaitLine(const TimeLimit& limit);
  absl::Status WaitReadable(const TimeLimit& limit) const;
  absl::Status Gone(absl::Status why);

  UniqueFd socket_;
  std::string version_;
  uint64_t next_id_ = uint64_t{1} << 32;  // Those of Call(); senders of their own use lower ones.
  QmpLines lines_;
  absl::Status gone_;  // Once it is.
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_QMP_CHANNEL_H_
