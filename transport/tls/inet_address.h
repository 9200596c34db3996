// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_INET_ADDRESS_H_
#define HAVEN_TRANSPORT_TLS_INET_ADDRESS_H_

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// An IPv4 or IPv6 address with a port. A value type. IPv6 link-local addresses are not supported:
// they mean nothing to the other host.
class InetAddress {
 public:
  static constexpr size_t kRawBytes = 16;  // An IPv4 address uses the first four.

  // 0.0.0.0:0.
  InetAddress();

  // "10.0.0.2:7000", "[fd00::2]:7000" or "host-b:7000", which asks the resolver and takes the first
  // answer. InvalidArgument: malformed; NotFound: the name is not known; Unavailable: the resolver
  // does not answer.
  static absl::StatusOr<InetAddress> Resolve(absl::string_view host_and_port);
  // A numeric address without a port, "10.0.0.2" or "fd00::2". InvalidArgument.
  static absl::StatusOr<InetAddress> ParseHost(absl::string_view host);
  // InvalidArgument: another family.
  static absl::StatusOr<InetAddress> FromSockaddr(const sockaddr* address);
  // `family` is AF_INET or AF_INET6 (checked).
  static InetAddress FromRaw(int family, const std::array<std::byte, kRawBytes>& raw,
                             uint16_t port);
  // The own or the other end of a connected socket.
  static absl::StatusOr<InetAddress> LocalOf(int socket);
  static absl::StatusOr<InetAddress> PeerOf(int socket);

  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  std::array<std::byte, kRawBytes> raw() const;
  InetAddress WithPort(uint16_t port) const;

  // Neither unspecified nor multicast nor link-local.
  bool IsUnicast() const;
  bool IsLoopback() const;
  bool SameHost(const InetAddress& other) const;

  const sockaddr* sockaddr_ptr() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  // For the C interfaces that forget the const; they do not write.
  sockaddr* mutable_sockaddr() { return reinterpret_cast<sockaddr*>(&storage_); }
  socklen_t sockaddr_bytes() const;

  std::string Host() const;      // "10.0.0.2"
  std::string ToString() const;  // "10.0.0.2:7000"

 private:
  sockaddr_storage storage_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_INET_ADDRESS_H_
