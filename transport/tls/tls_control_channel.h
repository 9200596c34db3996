// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_TLS_CONTROL_CHANNEL_H_
#define HAVEN_TRANSPORT_TLS_TLS_CONTROL_CHANNEL_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/endpoint.h"
#include "transport/tls/byte_stream.h"
#include "transport/tls/credentials.h"
#include "transport/tls/deadline.h"
#include "transport/tls/frame.h"
#include "transport/tls/inet_address.h"
#include "transport/tls/secure_stream.h"

namespace haven {

// Of this process. Errors of getrandom(2).
absl::StatusOr<Incarnation> MakeIncarnation();

// Messages over TCP with TLS 1.3, in the frames of frame.h. With insecure credentials the same
// without TLS.
//
// Before the first message each side sends a greeting behind the handshake; over TLS the acceptor
// first, else the connector. Until that is done no byte of the peer's goes any further than OpenSSL
// and the check of the greeting, and no memory is allocated at the peer's wish.
class TlsControlChannel final : public ControlChannel {
 public:
  // On a connected TCP socket. `name` stands for the other end in messages. Errors of
  // MakeSecureStream, which apply to the greeting as well; FailedPrecondition: another version.
  static absl::StatusOr<std::unique_ptr<TlsControlChannel>> Open(
      UniqueFd socket, StreamSide side, std::shared_ptr<const Credentials> credentials,
      const Incarnation& own, const NetDeadline& deadline, std::string name);

  // Connects first. Unavailable: nobody listens there; DeadlineExceeded: no answer, or no way leads
  // there; Aborted: the peer has ended the connection, so that it may be tried again.
  static absl::StatusOr<std::unique_ptr<TlsControlChannel>> Connect(
      const InetAddress& address, std::shared_ptr<const Credentials> credentials,
      const Incarnation& own, const NetDeadline& deadline, std::string name);

  absl::Status Send(std::span<const std::byte> message, absl::Duration timeout) override;
  absl::StatusOr<std::optional<std::vector<std::byte>>> Receive() override;
  absl::StatusOr<ChannelKey> ExportKey(uint64_t context) const override;
  int fd() const override { return stream_->fd(); }
  bool buffered() const override { return stream_->buffered(); }
  // "rdma:10.0.0.2:7000 node b".
  std::string Describe() const override;

  const Incarnation& peer() const { return peer_; }
  // This end's address.
  const InetAddress& local() const { return local_; }

 private:
  TlsControlChannel(std::unique_ptr<ByteStream> stream, const InetAddress& local, std::string name)
      : stream_(std::move(stream)), local_(local), name_(std::move(name)) {}

  absl::Status Greet(const Incarnation& own, StreamSide side, bool over_tls,
                     const NetDeadline& deadline);
  absl::Status SendAll(std::span<const std::byte> bytes, const NetDeadline& deadline);
  absl::Status ReceiveAll(std::span<std::byte> room, const NetDeadline& deadline);
  absl::Status Break(const absl::Status& cause);

  const std::unique_ptr<ByteStream> stream_;
  const InetAddress local_;
  const std::string name_;
  Incarnation peer_ = {};

  MessageReader incoming_;
  std::vector<std::byte> outgoing_;
  absl::Status broken_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_TLS_CONTROL_CHANNEL_H_
