// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/synthetic/control_message.h"

namespace haven {
namespace {

// Moves the descriptors of a received message to `fds`.
void TakeDescriptors(msghdr& header, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

absl::Status SendGuestMessage(int socket, const GuestMessage& message, std::span<const int> fds) {
  HAVEN_CHECK_LE(fds.size(), kGuestFds);
  std::array<std::byte, kGuestMessageBytes> bytes;
  EncodeGuestMessage(message, bytes);
  iovec part{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(kGuestFds * sizeof(int))> control{};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  while (sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      return absl::ResourceExhaustedError("the peer of a synthetic guest's socket does not read");
    }
    return absl::UnavailableError(
        absl::StrCat("the peer of a synthetic guest's socket is gone: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::StatusOr<Received> ReceiveGuestMessage(int socket, GuestMessage& message,
                                             std::vector<UniqueFd>* fds) {
  // One byte more than a message, so that a longer one shows.
  std::array<std::byte, kGuestMessageBytes + 1> bytes;
  iovec part{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(kGuestFds * sizeof(int))> control{};
  if (fds != nullptr) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }
  ssize_t count;
  do {
    count = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return Received::kNothing;
  if (count <= 0) return Received::kClosed;
  if (fds != nullptr) TakeDescriptors(header, *fds);
  const absl::Status sound =
      DecodeGuestMessage(std::span(bytes).first(static_cast<size_t>(count)), message);
  if (!sound.ok()) return sound;
  return Received::kMessage;
}

}  // namespace haven
