// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SHM_LISTENER_H_
#define HAVEN_TRANSPORT_SHM_SHM_LISTENER_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "engine/base/fd.h"
#include "transport/endpoint.h"
#include "transport/shm/unix_address.h"

namespace haven {

// A listening Unix socket. Its file has mode 0600 from the first moment, is removed with the
// listener by the process that made it (a child that inherits the object through fork(2) leaves it
// alone), and when that process was killed, by the next listener at the address.
class ShmListener final : public Listener {
 public:
  // An empty address: an abstract name that the kernel chooses. AlreadyExists: another process
  // listens there, or the path is no socket; Unavailable: another process is starting to listen in
  // the same folder at this moment; InvalidArgument; NotFound: no such folder; PermissionDenied.
  static absl::StatusOr<std::unique_ptr<ShmListener>> Listen(absl::string_view address);

  ~ShmListener() override;

  absl::StatusOr<std::optional<int>> Accept() override;
  int fd() const override { return socket_.get(); }
  std::string address() const override { return address_; }

 private:
  ShmListener(UniqueFd socket, std::string address, std::string path);

  const UniqueFd socket_;
  const std::string address_;
  const std::string path_;  // Empty for an abstract name.
  const pid_t owner_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SHM_LISTENER_H_
