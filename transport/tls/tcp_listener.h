// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_TCP_LISTENER_H_
#define HAVEN_TRANSPORT_TLS_TCP_LISTENER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/endpoint.h"
#include "transport/tls/inet_address.h"

namespace haven {

// A listening TCP socket. A connection on which nothing is said is not handed out before the kernel
// has waited kSilentSeconds for its first byte, so that connecting alone costs the backup nothing;
// at most kBacklog connections wait in the kernel.
class TcpListener final : public Listener {
 public:
  static constexpr int kBacklog = 64;
  static constexpr int kSilentSeconds = 3;

  // Port 0: a free one. `prefix` is put before address(). AlreadyExists: the address is taken;
  // InvalidArgument: it is none of this host's.
  static absl::StatusOr<std::unique_ptr<TcpListener>> Listen(const InetAddress& address,
                                                             std::string prefix);

  absl::StatusOr<std::optional<int>> Accept() override;
  int fd() const override { return socket_.get(); }
  std::string address() const override { return prefix_ + bound_.ToString(); }
  const InetAddress& bound() const { return bound_; }

 private:
  TcpListener(UniqueFd socket, const InetAddress& bound, std::string prefix)
      : socket_(std::move(socket)), bound_(bound), prefix_(std::move(prefix)) {}

  const UniqueFd socket_;
  const InetAddress bound_;
  const std::string prefix_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_TCP_LISTENER_H_
