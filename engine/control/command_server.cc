// SPDX-License-Identifier: Apache-2.0
#include "engine/control/command_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/time_limit.h"

namespace haven {

namespace {

// A request is NAME '\n' ARGUMENT, an answer CODE '\n' MESSAGE, each one packet.
constexpr char kSeparator = '\n';
constexpr int kQueueRetryMs = 10;
// Between attempts to accept while the process has no descriptor left for it.
constexpr int kAcceptRetryMs = 100;

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

// Waits until a descriptor is ready for `events`; false at the limit.
bool WaitFor(int fd, short events, const TimeLimit& limit) {
  pollfd one = {fd, events, 0};
  for (;;) {
    const int found = poll(&one, 1, limit.PollMs());
    if (found >= 0 || errno != EINTR) return found > 0;
  }
}

// Connects, or waits for a place in the server's queue.
absl::Status Connect(int fd, const sockaddr_un& address, const std::string& path,
                     const TimeLimit& limit) {
  while (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return absl::NotFoundError("no engine or session drives this group on this host now");
    }
    if (errno != EAGAIN) return SystemError("can not connect to", path);
    // The queue is full (unix(7)); no descriptor tells when it is not.
    if (limit.Passed()) {
      return absl::DeadlineExceededError(
          "the process that drives this group takes no more commands: it hangs, or too many wait");
    }
    poll(nullptr, 0, kQueueRetryMs);
  }
  return absl::OkStatus();
}

absl::Status SendPacket(int fd, absl::string_view packet, const std::string& path,
                        const TimeLimit& limit) {
  while (send(fd, packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return SystemError("can not send to", path);
    if (!WaitFor(fd, POLLOUT, limit)) {
      return absl::DeadlineExceededError("the process that drives this group does not read");
    }
  }
  return absl::OkStatus();
}

bool IsPlain(absl::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
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
  std::unique_ptr<CommandServer> server(
      new CommandServer(path, std::move(socket_fd), std::move(stop), std::move(handler)));
  HAVEN_ASSIGN_OR_RETURN(server->thread_,
                         Thread::Start("haven-commands", [self = server.get()] { self->Work(); }));
  return server;
}

CommandServer::CommandServer(std::string path, UniqueFd socket, WakeFd stop, Handler handler)
    : path_(std::move(path)),
      socket_(std::move(socket)),
      stop_(std::move(stop)),
      handler_(std::move(handler)) {}

CommandServer::~CommandServer() {
  stop_.Signal();
  thread_.Join();
  unlink(path_.c_str());
}

void CommandServer::Work() {
  for (;;) {
    std::array<pollfd, 2> fds = {{{stop_.fd(), POLLIN, 0}, {socket_.get(), POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    if (fds[0].revents != 0) return;
    const UniqueFd client(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.valid() && MayCommand(client.get())) ServeOne(client.get());
    if (!client.valid() && errno != EAGAIN && errno != EINTR) {
      // The client waits in the queue, which keeps the socket readable.
      poll(fds.data(), 1, kAcceptRetryMs);
    }
  }
}

void CommandServer::ServeOne(int client) {
  if (!WaitFor(client, POLLIN, TimeLimit(kClientTimeout))) return;
  std::array<char, kMaxBytes> buffer;
  // The packet's whole size, whatever fits.
  const ssize_t size = recv(client, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
  if (size <= 0) return;
  absl::Status result = absl::InvalidArgumentError("this is no command");
  if (static_cast<size_t>(size) <= buffer.size()) {
    const std::vector<std::string> parts =
        absl::StrSplit(absl::string_view(buffer.data(), static_cast<size_t>(size)), kSeparator);
    if (parts.size() == 2 && IsPlain(parts[0]) && IsPlain(parts[1])) {
      result = handler_({parts[0], parts[1]});
    }
  }
  const std::string answer =
      absl::StrCat(result.raw_code(), std::string(1, kSeparator), result.message());
  const absl::Status sent = SendPacket(client, absl::string_view(answer).substr(0, kMaxBytes),
                                       path_, TimeLimit(kClientTimeout));
  if (!sent.ok()) {
    HAVEN_LOG(kWarning, "command") << "the one who asked has gone: " << std::string(sent.message());
  }
}

absl::Status SendCommand(const std::string& path, const OperatorCommand& command,
                         absl::Duration timeout) {
  const std::string request =
      absl::StrCat(command.name, std::string(1, kSeparator), command.argument);
  if (request.size() > CommandServer::kMaxBytes) {
    return absl::InvalidArgumentError("the command is too long");
  }
  if (!IsPlain(command.name) || !IsPlain(command.argument)) {
    return absl::InvalidArgumentError("the command has control characters in it");
  }
  HAVEN_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  const TimeLimit limit(timeout);
  const UniqueFd socket_fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_fd.valid()) return SystemError("can not make a socket for", path);
  HAVEN_RETURN_IF_ERROR(Connect(socket_fd.get(), address, path, limit));
  HAVEN_RETURN_IF_ERROR(SendPacket(socket_fd.get(), request, path, limit));
  if (!WaitFor(socket_fd.get(), POLLIN, limit)) {
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
