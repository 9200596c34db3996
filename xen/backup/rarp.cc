// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/rarp.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"

namespace haven {
namespace {

constexpr uint16_t kEthernet = 1;
constexpr uint16_t kRequestReverse = 3;

}  // namespace

std::array<std::byte, kRarpFrameBytes> MakeRarpFrame(const std::array<uint8_t, 6>& mac) {
  std::array<std::byte, kRarpFrameBytes> frame = {};
  size_t at = 0;
  const auto put = [&](uint8_t byte) { frame[at++] = std::byte{byte}; };
  const auto put16 = [&](uint16_t value) {
    put(static_cast<uint8_t>(value >> 8));
    put(static_cast<uint8_t>(value));
  };
  const auto put_mac = [&] { std::for_each(mac.begin(), mac.end(), put); };
  for (int i = 0; i < 6; ++i) put(0xff);
  put_mac();
  put16(ETHERTYPE_REVARP);
  put16(kEthernet);
  put16(ETHERTYPE_IP);
  put(6);  // Bytes of a hardware and of a protocol address.
  put(4);
  put16(kRequestReverse);
  put_mac();
  at += 4;  // Sender's protocol address: not known.
  put_mac();
  return frame;
}

absl::Status SendRarp(const std::string& interface, const std::array<uint8_t, 6>& mac) {
  const auto failed = [&](absl::string_view what) {
    const std::string message =
        absl::StrCat("announce a guest on ", interface, ": ", what, ": ", std::strerror(errno));
    if (errno == EPERM || errno == EACCES) return absl::PermissionDeniedError(message);
    if (errno == ENODEV || errno == ENXIO) return absl::NotFoundError(message);
    return absl::UnavailableError(message);
  };
  sockaddr_ll to = {};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETHERTYPE_REVARP);
  to.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (to.sll_ifindex == 0) return failed("no such interface");
  // Protocol 0: it receives nothing.
  const UniqueFd sender(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!sender) return failed("packet socket");
  to.sll_halen = ETH_ALEN;
  std::fill_n(to.sll_addr, ETH_ALEN, uint8_t{0xff});
  const std::array<std::byte, kRarpFrameBytes> frame = MakeRarpFrame(mac);
  const ssize_t sent = sendto(sender.get(), frame.data(), frame.size(), 0,
                              reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  if (sent != static_cast<ssize_t>(frame.size())) return failed("send");
  return absl::OkStatus();
}

}  // namespace haven
