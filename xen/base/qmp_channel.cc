// SPDX-License-Identifier: Apache-2.0
#include "xen/base/qmp_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {

std::string QmpSocketPath(uint32_t domid) {
  return absl::StrCat("/var/run/xen/qmp-libxenstat-", domid);
}

absl::StatusOr<std::unique_ptr<QmpChannel>> QmpChannel::Connect(const std::string& path,
                                                                const TimeLimit& limit) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return absl::ErrnoToStatus(errno, "make a socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::UnavailableError(absl::StrCat(path, " is too long for a socket's path"));
  }
  std::copy(path.begin(), path.end(), address.sun_path);
  while (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    if (error == EINTR) continue;
    // Its queue is full of clients that it does not serve yet: no event tells when there is room.
    if (error == EAGAIN && !limit.Passed()) {
      constexpr int kRetryMs = 10;
      poll(nullptr, 0, std::min(kRetryMs, limit.PollMs()));
      continue;
    }
    const std::string cause = absl::StrCat("connect to QEMU at ", path, ": ", strerror(error));
    if (error == EAGAIN) return absl::DeadlineExceededError(cause);
    return absl::UnavailableError(cause);
  }
  auto channel = std::unique_ptr<QmpChannel>(new QmpChannel(std::move(socket)));
  HAVEN_ASSIGN_OR_RETURN(const absl::string_view greeting, channel->WaitLine(limit));
  HAVEN_ASSIGN_OR_RETURN(channel->version_, QmpVersion(greeting));
  HAVEN_RETURN_IF_ERROR(channel->Call("qmp_capabilities", "", limit).status());
  return channel;
}

absl::Status QmpChannel::Gone(absl::Status why) {
  gone_ = std::move(why);
  return gone_;
}

absl::Status QmpChannel::Send(absl::string_view commands, int fd) {
  HAVEN_RETURN_IF_ERROR(gone_);
  iovec piece = {const_cast<char*>(commands.data()), commands.size()};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = room;
    message.msg_controllen = sizeof(room);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(commands.size())) return absl::OkStatus();
  // Half a command can not be completed later without blocking, and it owes us answers anyway.
  if (sent >= 0 || errno == EAGAIN) {
    return Gone(absl::UnavailableError("QEMU does not read its commands"));
  }
  return Gone(absl::UnavailableError(absl::StrCat("send to QEMU: ", strerror(errno))));
}

absl::StatusOr<std::optional<absl::string_view>> QmpChannel::NextLine() {
  HAVEN_RETURN_IF_ERROR(gone_);
  while (true) {
    if (const auto line = lines_.Take(); line.has_value()) return line;
    const std::span<char> room = lines_.Room();
    if (room.empty()) return Gone(StrangeQmpLine(lines_.rest()));
    const ssize_t got = recv(socket_.get(), room.data(), room.size(), 0);
    if (got > 0) {
      lines_.Add(static_cast<size_t>(got));
    } else if (got == 0) {
      return Gone(absl::UnavailableError("QEMU has hung up"));
    } else if (errno == EAGAIN) {
      return std::nullopt;
    } else if (errno != EINTR) {
      return Gone(absl::UnavailableError(absl::StrCat("QEMU has hung up: ", strerror(errno))));
    }
  }
}

absl::Status QmpChannel::WaitReadable(const TimeLimit& limit) const {
  pollfd waited = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
  while (true) {
    const int ready = poll(&waited, 1, limit.PollMs());
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) return absl::DeadlineExceededError("QEMU does not answer");
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "wait for QEMU");
  }
}

absl::StatusOr<absl::string_view> QmpChannel::WaitLine(const TimeLimit& limit) {
  while (true) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<absl::string_view> line, NextLine());
    if (line.has_value()) return *line;
    HAVEN_RETURN_IF_ERROR(WaitReadable(limit));
  }
}

absl::StatusOr<std::optional<QmpChannel::Answer>> QmpChannel::Next() {
  while (true) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<absl::string_view> next, NextLine());
    if (!next.has_value()) return std::nullopt;
    const QmpLine line = ReadQmpLine(*next);
    if (line.kind == QmpLine::Kind::kAnswer) return line.answer;
    if (line.kind != QmpLine::Kind::kEvent) return Gone(StrangeQmpLine(*next));
  }
}

absl::StatusOr<QmpChannel::Answer> QmpChannel::Wait(const TimeLimit& limit) {
  while (true) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<Answer> answer, Next());
    if (answer.has_value()) return *answer;
    HAVEN_RETURN_IF_ERROR(WaitReadable(limit));
  }
}

absl::StatusOr<std::string> QmpChannel::Call(absl::string_view name, absl::string_view arguments,
                                             const TimeLimit& limit, int fd) {
  const uint64_t id = next_id_++;
  HAVEN_RETURN_IF_ERROR(Send(
      absl::StrCat("{\"execute\":\"", name, "\"",
                   arguments.empty() ? "" : ",\"arguments\":", arguments, ",\"id\":", id, "}\r\n"),
      fd));
  while (true) {
    HAVEN_ASSIGN_OR_RETURN(const Answer answer, Wait(limit));
    if (answer.id != id) continue;
    if (answer.ok) return std::string(answer.text);
    return absl::InternalError(
        absl::StrCat("QEMU refuses ", name, ": ", QuotedQmpLine(answer.text)));
  }
}

absl::StatusOr<std::string> QmpChannel::RunState(const TimeLimit& limit) {
  HAVEN_ASSIGN_OR_RETURN(const std::string answer, Call("query-status", "", limit));
  return QmpRunState(answer);
}

}  // namespace haven
