// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/inet_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

const sockaddr_in& V4(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in&>(storage);
}
const sockaddr_in6& V6(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in6&>(storage);
}
sockaddr_in& V4(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in&>(storage); }
sockaddr_in6& V6(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in6&>(storage); }

struct HostAndPort {
  std::string host;
  uint16_t port = 0;
};

absl::StatusOr<HostAndPort> Split(absl::string_view text) {
  const auto malformed = [text](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", text, "\": ", why, "; write HOST:PORT or [IPV6-ADDRESS]:PORT"));
  };
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return malformed("the port is missing");
  absl::string_view host = text.substr(0, colon);
  const absl::string_view port_text = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != absl::string_view::npos) {
    return malformed("an IPv6 address stands in brackets");
  }
  if (host.empty()) return malformed("the host is missing");
  uint32_t port = 0;
  if (!absl::SimpleAtoi(port_text, &port) || port > 65535) {
    return malformed("the port is a number from 0 to 65535");
  }
  return HostAndPort{std::string(host), static_cast<uint16_t>(port)};
}

absl::Status ResolverError(int error, const std::string& host) {
  const std::string message = absl::StrCat("host \"", host, "\": ", gai_strerror(error));
  if (error == EAI_NONAME || error == EAI_FAIL) return absl::NotFoundError(message);
  return absl::UnavailableError(message);
}

absl::StatusOr<InetAddress> Lookup(const std::string& host) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) return ResolverError(error, host);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  return InetAddress::FromSockaddr(found->ai_addr);
}

absl::StatusOr<InetAddress> NameOf(int socket, decltype(getsockname)* get) {
  sockaddr_storage storage = {};
  socklen_t bytes = sizeof(storage);
  if (get(socket, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "the address of a socket");
  }
  return InetAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&storage));
}

}  // namespace

InetAddress::InetAddress() : storage_() { storage_.ss_family = AF_INET; }

absl::StatusOr<InetAddress> InetAddress::Resolve(absl::string_view host_and_port) {
  HAVEN_ASSIGN_OR_RETURN(const HostAndPort split, Split(host_and_port));
  HAVEN_ASSIGN_OR_RETURN(const InetAddress address, Lookup(split.host));
  return address.WithPort(split.port);
}

absl::StatusOr<InetAddress> InetAddress::ParseHost(absl::string_view host) {
  const std::string text(host);
  // Not getaddrinfo, to which "10.1" is an address.
  for (const int family : {AF_INET, AF_INET6}) {
    std::array<std::byte, kRawBytes> raw = {};
    if (inet_pton(family, text.c_str(), raw.data()) == 1) return FromRaw(family, raw, 0);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", host, "\" is no numeric IPv4 or IPv6 address"));
}

absl::StatusOr<InetAddress> InetAddress::FromSockaddr(const sockaddr* address) {
  InetAddress result;
  if (address->sa_family == AF_INET) {
    std::memcpy(&result.storage_, address, sizeof(sockaddr_in));
  } else if (address->sa_family == AF_INET6) {
    std::memcpy(&result.storage_, address, sizeof(sockaddr_in6));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("an address of family ", address->sa_family, " is neither IPv4 nor IPv6"));
  }
  return result;
}

InetAddress InetAddress::FromRaw(int family, const std::array<std::byte, kRawBytes>& raw,
                                 uint16_t port) {
  HAVEN_CHECK(family == AF_INET || family == AF_INET6) << "family=" << family;
  InetAddress result;
  result.storage_.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    std::memcpy(&V4(result.storage_).sin_addr, raw.data(), sizeof(in_addr));
  } else {
    std::memcpy(&V6(result.storage_).sin6_addr, raw.data(), sizeof(in6_addr));
  }
  return result.WithPort(port);
}

absl::StatusOr<InetAddress> InetAddress::LocalOf(int socket) { return NameOf(socket, getsockname); }
absl::StatusOr<InetAddress> InetAddress::PeerOf(int socket) { return NameOf(socket, getpeername); }

uint16_t InetAddress::port() const {
  return ntohs(family() == AF_INET ? V4(storage_).sin_port : V6(storage_).sin6_port);
}

std::array<std::byte, InetAddress::kRawBytes> InetAddress::raw() const {
  std::array<std::byte, kRawBytes> bytes = {};
  if (family() == AF_INET) {
    std::memcpy(bytes.data(), &V4(storage_).sin_addr, sizeof(in_addr));
  } else {
    std::memcpy(bytes.data(), &V6(storage_).sin6_addr, sizeof(in6_addr));
  }
  return bytes;
}

InetAddress InetAddress::WithPort(uint16_t port) const {
  InetAddress result = *this;
  if (family() == AF_INET) {
    V4(result.storage_).sin_port = htons(port);
  } else {
    V6(result.storage_).sin6_port = htons(port);
  }
  return result;
}

bool InetAddress::IsUnicast() const {
  if (family() == AF_INET) {
    const uint32_t host = ntohl(V4(storage_).sin_addr.s_addr);
    return host != INADDR_ANY && host != INADDR_BROADCAST && !IN_MULTICAST(host) &&
           (host >> 16) != 0xa9fe;  // 169.254.0.0/16
  }
  const in6_addr& host = V6(storage_).sin6_addr;
  return !IN6_IS_ADDR_UNSPECIFIED(&host) && !IN6_IS_ADDR_MULTICAST(&host) &&
         !IN6_IS_ADDR_LINKLOCAL(&host);
}

bool InetAddress::IsLoopback() const {
  if (family() == AF_INET) {
    return (ntohl(V4(storage_).sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
  }
  return IN6_IS_ADDR_LOOPBACK(&V6(storage_).sin6_addr);
}

bool InetAddress::SameHost(const InetAddress& other) const {
  return family() == other.family() && raw() == other.raw();
}

socklen_t InetAddress::sockaddr_bytes() const {
  return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

std::string InetAddress::Host() const {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  const std::array<std::byte, kRawBytes> bytes = raw();
  HAVEN_CHECK(inet_ntop(family(), bytes.data(), text.data(), text.size()) != nullptr);
  return text.data();
}

std::string InetAddress::ToString() const {
  if (family() == AF_INET) return absl::StrCat(Host(), ":", port());
  return absl::StrCat("[", Host(), "]:", port());
}

}  // namespace haven
