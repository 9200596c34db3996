// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_RARP_H_
#define HAVEN_XEN_BACKUP_RARP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace haven {

// The shortest Ethernet frame without its check sequence.
inline constexpr size_t kRarpFrameBytes = 60;

// A broadcast from `mac`: a request of RFC 903 for its own protocol address. Nobody answers it;
// every switch on its way learns where `mac` is. What QEMU sends after a migration, too.
std::array<std::byte, kRarpFrameBytes> MakeRarpFrame(const std::array<uint8_t, 6>& mac);

// Sends it out of the network interface `interface`. NotFound: there is none of this name;
// PermissionDenied: this process may not (CAP_NET_RAW); Unavailable: another errno.
absl::Status SendRarp(const std::string& interface, const std::array<uint8_t, 6>& mac);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_RARP_H_
