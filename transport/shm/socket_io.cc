// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/socket_io.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr size_t kControlBytes =
    CMSG_SPACE(sizeof(int) * kMaxAttachedFds) + CMSG_SPACE(sizeof(ucred));

struct ControlBuffer {
  alignas(cmsghdr) std::array<char, kControlBytes> bytes{};
};

absl::Status SocketError(int error, absl::string_view call) {
  switch (error) {
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
      return absl::UnavailableError("the peer has closed the connection");
    case EMFILE:
    case ENFILE:
    case ETOOMANYREFS:
      return absl::ResourceExhaustedError(absl::StrCat(
          call, ": no more descriptors (", std::strerror(error), "); raise RLIMIT_NOFILE"));
    default:
      return absl::ErrnoToStatus(error, call);
  }
}

// Appends one control message and returns its data.
template <typename Fill>
void AddControl(msghdr& message, int type, size_t data_bytes, Fill fill) {
  auto* header =
      reinterpret_cast<cmsghdr*>(static_cast<char*>(message.msg_control) + message.msg_controllen);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(data_bytes);
  fill(CMSG_DATA(header));
  message.msg_controllen += CMSG_SPACE(data_bytes);
}

void AddAttachment(msghdr& message, ControlBuffer& control, const Attachment& attachment) {
  if (attachment.fds.empty() && !attachment.credentials) return;
  message.msg_control = control.bytes.data();
  if (!attachment.fds.empty()) {
    AddControl(message, SCM_RIGHTS, attachment.fds.size_bytes(), [&](unsigned char* data) {
      std::memcpy(data, attachment.fds.data(), attachment.fds.size_bytes());
    });
  }
  if (attachment.credentials) {
    AddControl(message, SCM_CREDENTIALS, sizeof(ucred), [](unsigned char* data) {
      const ucred self = {.pid = getpid(), .uid = geteuid(), .gid = getegid()};
      std::memcpy(data, &self, sizeof(self));
    });
  }
}

// Takes ownership of every descriptor first, so that none leaks whatever else is found.
void TakeControl(msghdr& message, ReceivedPiece& received) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    const size_t data_bytes = header->cmsg_len - CMSG_LEN(0);
    if (header->cmsg_type == SCM_RIGHTS) {
      for (size_t at = 0; at + sizeof(int) <= data_bytes; at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
        received.fds.emplace_back(fd);
      }
    } else if (header->cmsg_type == SCM_CREDENTIALS && data_bytes == sizeof(ucred)) {
      ucred sender;
      std::memcpy(&sender, CMSG_DATA(header), sizeof(sender));
      received.sender = sender;
    }
  }
  if ((message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) received.cut = true;
}

}  // namespace

absl::StatusOr<size_t> SendPiece(int socket, std::span<const std::byte> bytes,
                                 const Attachment& attachment) {
  HAVEN_CHECK(!bytes.empty());
  HAVEN_CHECK_LE(attachment.fds.size(), kMaxAttachedFds);
  // sendmsg does not write through msg_iov; the field is shared with recvmsg, which does.
  iovec piece = {.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  ControlBuffer control;
  AddAttachment(message, control, attachment);
  for (;;) {
    const ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return size_t{0};
    if (errno != EINTR) return SocketError(errno, "sendmsg");
  }
}

absl::StatusOr<std::optional<ReceivedPiece>> ReceivePiece(int socket, std::span<std::byte> room) {
  iovec piece = {.iov_base = room.data(), .iov_len = room.size()};
  ControlBuffer control;
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  for (;;) {
    const ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got > 0) {
      ReceivedPiece received;
      received.bytes = static_cast<size_t>(got);
      TakeControl(message, received);
      return std::optional<ReceivedPiece>(std::move(received));
    }
    if (got == 0) return SocketError(ECONNRESET, "recvmsg");
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::optional<ReceivedPiece>();
    if (errno != EINTR) return SocketError(errno, "recvmsg");
  }
}

absl::Status SendAll(int socket, std::span<const std::byte> bytes, const ShmDeadline& deadline,
                     const Attachment& attachment) {
  Attachment first = attachment;
  while (!bytes.empty()) {
    HAVEN_ASSIGN_OR_RETURN(const size_t sent, SendPiece(socket, bytes, first));
    if (sent == 0) {
      HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(socket, POLLOUT, deadline));
      if (!ready) {
        return absl::DeadlineExceededError(
            absl::StrCat("the peer does not read: ", bytes.size(), " bytes are left to send"));
      }
      continue;
    }
    bytes = bytes.subspan(sent);
    first = {};
  }
  return absl::OkStatus();
}

absl::StatusOr<ReceivedPiece> ReceiveAll(int socket, std::span<std::byte> room,
                                         const ShmDeadline& deadline) {
  ReceivedPiece all;
  while (all.bytes < room.size()) {
    HAVEN_ASSIGN_OR_RETURN(std::optional<ReceivedPiece> piece,
                           ReceivePiece(socket, room.subspan(all.bytes)));
    if (!piece.has_value()) {
      HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(socket, POLLIN, deadline));
      if (!ready) {
        return absl::DeadlineExceededError(
            absl::StrCat("the peer is silent: ", room.size() - all.bytes, " bytes are missing"));
      }
      continue;
    }
    if (all.bytes > 0 && piece->sender.has_value() != all.sender.has_value()) {
      return absl::DataLossError("a message came in pieces from different senders");
    }
    if (all.sender.has_value() && piece->sender->pid != all.sender->pid) {
      return absl::DataLossError(absl::StrCat("a message came in pieces from pid ", all.sender->pid,
                                              " and pid ", piece->sender->pid));
    }
    all.bytes += piece->bytes;
    all.sender = piece->sender;
    all.cut |= piece->cut;
    for (UniqueFd& fd : piece->fds) all.fds.push_back(std::move(fd));
  }
  return all;
}

absl::Status CheckUnixSocket(int fd, int type) {
  int domain = 0;
  int actual_type = 0;
  socklen_t domain_bytes = sizeof(domain);
  socklen_t type_bytes = sizeof(actual_type);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &actual_type, &type_bytes) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("descriptor ", fd, " is not a socket: ", std::strerror(errno)));
  }
  if (domain != AF_UNIX || actual_type != type) {
    return absl::InvalidArgumentError(absl::StrCat("descriptor ", fd, " is a socket of domain ",
                                                   domain, " and type ", actual_type,
                                                   ", not a Unix socket of type ", type));
  }
  return absl::OkStatus();
}

}  // namespace haven
