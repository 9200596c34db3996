// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_UNIX_ADDRESS_H_
#define HAVEN_TRANSPORT_SHM_UNIX_ADDRESS_H_

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// "unix:/path" names a socket file; "unix:@name" an abstract socket (unix(7)), which leaves no file
// behind but is not guarded by file permissions.
class ShmAddress {
 public:
  // InvalidArgument: another scheme, an empty or relative path, a NUL, or longer than the kernel
  // takes (107 bytes).
  static absl::StatusOr<ShmAddress> Parse(absl::string_view text);

  // The address that a socket is bound to; "unix:" if it has none or is no Unix socket.
  static std::string OfSocket(int socket);

  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&raw_); }
  socklen_t raw_bytes() const { return raw_bytes_; }
  bool abstract() const { return raw_.sun_path[0] == '\0'; }
  // The file; empty for an abstract socket.
  std::string path() const { return raw_.sun_path; }
  // The folder of the file.
  std::string directory() const;
  const std::string& text() const { return text_; }

 private:
  ShmAddress() = default;

  sockaddr_un raw_ = {};
  socklen_t raw_bytes_ = 0;
  std::string text_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_UNIX_ADDRESS_H_
