// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_UNIX_ADDRESS_H_
#define HAVEN_ENGINE_SYNTHETIC_UNIX_ADDRESS_H_

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// The address of a socket in the file system, for connect, bind and sendto while it exists. The
// kernel takes 107 bytes only; so the directory is held open and the address goes through its
// descriptor, and only the last part of a path is limited.
class UnixAddress {
 public:
  // NotFound, PermissionDenied: the directory can not be opened. InvalidArgument: the last part of
  // the path is empty or longer than 80 bytes.
  static absl::StatusOr<UnixAddress> Make(const std::string& path);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t bytes() const { return sizeof(address_); }

 private:
  UnixAddress() = default;

  UniqueFd directory_;
  sockaddr_un address_{};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_UNIX_ADDRESS_H_
