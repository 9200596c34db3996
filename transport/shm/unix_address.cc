// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/unix_address.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace haven {

absl::StatusOr<ShmAddress> ShmAddress::Parse(absl::string_view text) {
  absl::string_view name = text;
  if (!absl::ConsumePrefix(&name, "unix:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("address '", text, "' is not of the form unix:/path or unix:@name"));
  }
  if (name.size() < 2 || (name[0] != '/' && name[0] != '@') ||
      name.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "address '", text, "' names no socket: use unix:/absolute/path or unix:@name"));
  }
  ShmAddress address;
  if (name.size() >= sizeof(address.raw_.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("address '", text, "' is too long: ", name.size(), " bytes, at most ",
                     sizeof(address.raw_.sun_path) - 1));
  }
  address.raw_.sun_family = AF_UNIX;
  std::copy(name.begin(), name.end(), address.raw_.sun_path);
  const bool abstract = name[0] == '@';
  if (abstract) address.raw_.sun_path[0] = '\0';
  // An abstract name is exactly as long as it is given; a path ends with its NUL.
  address.raw_bytes_ =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1));
  address.text_ = std::string(text);
  return address;
}

std::string ShmAddress::OfSocket(int socket) {
  // One byte more than the kernel writes, so that a path is always ended by a NUL.
  struct {
    sockaddr_un raw;
    char end;
  } name = {};
  socklen_t bytes = sizeof(name.raw);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&name.raw), &bytes) != 0 ||
      name.raw.sun_family != AF_UNIX || bytes <= offsetof(sockaddr_un, sun_path)) {
    return "unix:";
  }
  if (name.raw.sun_path[0] != '\0') return absl::StrCat("unix:", name.raw.sun_path);
  const size_t name_bytes =
      std::min<size_t>(bytes, sizeof(name.raw)) - offsetof(sockaddr_un, sun_path);
  return absl::StrCat("unix:@", absl::string_view(name.raw.sun_path + 1, name_bytes - 1));
}

std::string ShmAddress::directory() const {
  const std::string file = path();
  const size_t slash = file.rfind('/');
  return slash == 0 ? "/" : file.substr(0, slash);
}

}  // namespace haven
