// SPDX-License-Identifier: Apache-2.0
#include "engine/control/command_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// A request is NAME '\n' ARGUMENT, an answer CODE '\n' MESSAGE, each one packet.
constexpr char kSeparator = '\n';

absl::Status SystemError(absl::string_view what, const std::string& path) {
  const int error = errno;
  return absl::UnavailableError(absl::StrCat(what, " ", path, ": ", std::strerror(error)));
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path ", path, " is too long for a socket: use a shorter --directory"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Waits for a descriptor; false at the deadline.
bool WaitReadable(int fd, absl::Duration timeout) {
  pollfd one = {fd, POLLIN, 0};
  return poll(&one, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) > 0;
}

bool MayCommand(int client) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == geteuid();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CommandServer>> CommandServer::Start(const std::string& path,
                                                                    Handler handler) {
  HAVEN_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  HAVEN_ASSIGN_OR_RETURN(WakeFd stop, WakeFd::Create());
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_fd.valid()) return SystemError("can not make the socket", path);
  unlink(path.c_str());
  if (bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(socket_fd.get(), 16) != 0) {
    return SystemError("can not listen at", path);
  }
  return std::unique_ptr<CommandServer>(
      new CommandServer(path, std::move(socket_fd), std::move(stop), std::move(handler)));
}

CommandServer::CommandServer(std::string path, UniqueFd socket, WakeFd stop, Handler handler)
    : path_(std::move(path)),
      socket_(std::move(socket)),
      stop_(std::move(stop)),
      handler_(std::move(handler)),
      thread_([this] { Work(); }) {}

CommandServer::~CommandServer() {
  stop_.Signal();
  thread_.join();
  unlink(path_.c_str());
}

void CommandServer::Work() {
  for (;;) {
    std::array<pollfd, 2> fds = {{{stop_.fd(), POLLIN, 0}, {socket_.get(), POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    if (fds[0].revents != 0) return;
    const UniqueFd client(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.valid() && MayCommand(client.get())) ServeOne(client.get());
  }
}

void CommandServer::ServeOne(int client) {
  if (!WaitReadable(client, kClientTimeout)) return;
  std::array<char, kMaxBytes> buffer;
  const ssize_t size = recv(client, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (size <= 0) return;
  const std::vector<std::string> parts =
      absl::StrSplit(absl::string_view(buffer.data(), static_cast<size_t>(size)), kSeparator);
  absl::Status result = absl::InvalidArgumentError("this is no command");
  if (parts.size() == 2) result = handler_({parts[0], parts[1]});
  const std::string answer =
      absl::StrCat(result.raw_code(), std::string(1, kSeparator), result.message());
  if (send(client, answer.data(), std::min(answer.size(), kMaxBytes), MSG_NOSIGNAL) < 0) {
    HAVEN_LOG(kWarning, "command") << "the one who asked has gone: " << std::strerror(errno);
  }
}

absl::Status SendCommand(const std::string& path, const OperatorCommand& command,
                         absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  const UniqueFd socket_fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket_fd.valid()) return SystemError("can not make a socket for", path);
  if (connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return absl::NotFoundError("no engine or session drives this group on this host now");
    }
    return SystemError("can not connect to", path);
  }
  const std::string request =
      absl::StrCat(command.name, std::string(1, kSeparator), command.argument);
  if (request.size() > CommandServer::kMaxBytes) {
    return absl::InvalidArgumentError("the command is too long");
  }
  if (send(socket_fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return SystemError("can not send to", path);
  }
  if (!WaitReadable(socket_fd.get(), timeout)) {
    return absl::DeadlineExceededError(
        "the process does not answer; it may still do it: see the status");
  }
  std::array<char, CommandServer::kMaxBytes> buffer;
  const ssize_t size = recv(socket_fd.get(), buffer.data(), buffer.size(), 0);
  if (size <= 0) return absl::UnavailableError("the process has gone before it answered");
  const absl::string_view answer(buffer.data(), static_cast<size_t>(size));
  const size_t split = answer.find(kSeparator);
  int code = 0;
  if (split == absl::string_view::npos || !absl::SimpleAtoi(answer.substr(0, split), &code)) {
    return absl::DataLossError("the process gave an answer that makes no sense");
  }
  return absl::Status(static_cast<absl::StatusCode>(code), answer.substr(split + 1));
}

}  // namespace haven
