// SPDX-License-Identifier: Apache-2.0
#include "xen/output/netlink_socket.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// Room for the events of a host on which many links come and go between two looks.
constexpr int kEventBytes = 4 << 20;

absl::Status SocketError(absl::string_view what) {
  const std::string message =
      absl::StrCat("route netlink socket: ", what, ": ", std::strerror(errno),
                   "; the output buffer needs root, or the capability CAP_NET_ADMIN");
  if (errno == EPERM || errno == EACCES) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

class KernelNetlinkSocket final : public NetlinkSocket {
 public:
  KernelNetlinkSocket(UniqueFd fd, uint32_t port) : fd_(std::move(fd)), port_(port) {}

  int Send(std::span<const std::byte> datagram) override {
    while (send(fd_.get(), datagram.data(), datagram.size(), 0) < 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  }

  NetlinkReceived Receive(std::span<std::byte> buffer, int64_t deadline_ns) override {
    for (;;) {
      const NetlinkReceived received = ReceiveNow(buffer);
      if (received.error != EAGAIN || deadline_ns == 0) return received;
      const int64_t left_ns = deadline_ns - SystemClock::Get().NowNs();
      if (left_ns <= 0) return received;
      timespec wait;
      wait.tv_sec = left_ns / kNsPerSecond;
      wait.tv_nsec = left_ns % kNsPerSecond;
      pollfd readable = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
      ppoll(&readable, 1, &wait, nullptr);
    }
  }

  uint32_t port() const override { return port_; }

 private:
  NetlinkReceived ReceiveNow(std::span<std::byte> buffer) {
    for (;;) {
      sockaddr_nl from = {};
      iovec room = {.iov_base = buffer.data(), .iov_len = buffer.size()};
      msghdr header = {};
      header.msg_name = &from;
      header.msg_namelen = sizeof(from);
      header.msg_iov = &room;
      header.msg_iovlen = 1;
      const ssize_t bytes = recvmsg(fd_.get(), &header, MSG_DONTWAIT);
      if (bytes < 0) {
        if (errno == EINTR) continue;
        return {.bytes = 0, .error = errno};
      }
      if (from.nl_pid != 0)
        continue;  // Any process may write to the socket; only the kernel counts.
      if ((header.msg_flags & MSG_TRUNC) != 0) return {.bytes = 0, .error = EMSGSIZE};
      return {.bytes = static_cast<size_t>(bytes), .error = 0};
    }
  }

  const UniqueFd fd_;
  const uint32_t port_;
};

absl::StatusOr<UniqueFd> OpenRoute() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return SocketError("socket");
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return SocketError("bind");
  }
  return fd;
}

absl::StatusOr<std::unique_ptr<NetlinkSocket>> Wrap(UniqueFd fd) {
  sockaddr_nl address = {};
  socklen_t length = sizeof(address);
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return SocketError("getsockname");
  }
  return std::make_unique<KernelNetlinkSocket>(std::move(fd), address.nl_pid);
}

absl::Status SetOption(int fd, int level, int option, int value, absl::string_view name) {
  if (setsockopt(fd, level, option, &value, sizeof(value)) == 0) return absl::OkStatus();
  return SocketError(name);
}

// Events that our own requests cause would come twice per epoch, only to be ignored: the kernel
// drops them before they are queued. A load of BPF is big-endian, the header is not.
absl::Status IgnoreEventsOf(int fd, uint32_t port) {
  std::array<sock_filter, 4> program = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(nlmsghdr, nlmsg_pid)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
  }};
  const sock_fprog filter = {.len = program.size(), .filter = program.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0) {
    return absl::OkStatus();
  }
  return SocketError("SO_ATTACH_FILTER");
}

}  // namespace

absl::StatusOr<std::unique_ptr<NetlinkSocket>> OpenNetlinkRequests() {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd fd, OpenRoute());
  // Short acknowledgements, and the kernel's own words with an error.
  HAVEN_RETURN_IF_ERROR(SetOption(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, 1, "NETLINK_CAP_ACK"));
  HAVEN_RETURN_IF_ERROR(SetOption(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, 1, "NETLINK_EXT_ACK"));
  return Wrap(std::move(fd));
}

absl::StatusOr<std::unique_ptr<NetlinkSocket>> OpenNetlinkEvents(uint32_t own_port) {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd fd, OpenRoute());
  HAVEN_RETURN_IF_ERROR(IgnoreEventsOf(fd.get(), own_port));
  HAVEN_RETURN_IF_ERROR(
      SetOption(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, kEventBytes, "SO_RCVBUFFORCE"));
  for (const int group : {RTNLGRP_LINK, RTNLGRP_TC}) {
    HAVEN_RETURN_IF_ERROR(
        SetOption(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group, "NETLINK_ADD_MEMBERSHIP"));
  }
  return Wrap(std::move(fd));
}

}  // namespace haven
