// SPDX-License-Identifier: Apache-2.0
//
// How an operator's command reaches the process that drives a group, on the same host.
#ifndef HAVEN_ENGINE_CONTROL_COMMAND_SERVER_H_
#define HAVEN_ENGINE_CONTROL_COMMAND_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/base/thread.h"
#include "engine/control/wake_fd.h"

namespace haven {

// One command and its argument, each without control characters: "interval" "25ms".
struct OperatorCommand {
  std::string name;
  std::string argument;
};

// Serves commands at a Unix socket, one connection after the other, in a thread of its own. Only
// processes of the same user or of root are heard. A client that says nothing, or something
// malformed, is dropped after kClientTimeout.
class CommandServer {
 public:
  using Handler = std::function<absl::Status(const OperatorCommand&)>;

  static constexpr absl::Duration kClientTimeout = absl::Seconds(2);
  static constexpr size_t kMaxBytes = 4096;

  // Listens at `path`; a socket that a dead process left is replaced (the caller holds the group's
  // lock). `handler` runs in the server's thread. Unavailable: the socket can not be made;
  // ResourceExhausted: no thread or descriptor.
  static absl::StatusOr<std::unique_ptr<CommandServer>> Start(const std::string& path,
                                                              Handler handler);
  // Removes the socket; waits for a handler that is running.
  ~CommandServer();

 private:
  CommandServer(std::string path, UniqueFd socket, WakeFd stop, Handler handler);
  void Work();
  void ServeOne(int client);

  const std::string path_;
  const UniqueFd socket_;
  const WakeFd stop_;
  const Handler handler_;
  Thread thread_;
};

// Sends a command and returns the server's answer. InvalidArgument: longer than kMaxBytes, control
// characters, or a path too long for a socket; NotFound: nobody drives the group here;
// DeadlineExceeded: no answer in time, the command may still be carried out; Unavailable: the
// process has gone before it answered; DataLoss: what answers is no command server.
absl::Status SendCommand(const std::string& path, const OperatorCommand& command,
                         absl::Duration timeout);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_COMMAND_SERVER_H_
