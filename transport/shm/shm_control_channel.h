// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SHM_CONTROL_CHANNEL_H_
#define HAVEN_TRANSPORT_SHM_SHM_CONTROL_CHANNEL_H_

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "transport/endpoint.h"
#include "transport/shm/deadline.h"
#include "transport/shm/handshake.h"
#include "transport/shm/peer_process.h"

namespace haven {

// Messages over a Unix stream socket, each behind eight bytes: magic and length, little-endian. (A
// packet socket would keep the boundaries, but its packets are limited by net.core.wmem_max, which
// by default is a fifth of kMaxMessageBytes.) A message of up to about 200 KB is taken by the
// kernel at once; two sides that send more to each other at the same time, without receiving, wait
// for each other until the deadline.
class ShmControlChannel final : public ControlChannel {
 public:
  // Runs the handshake on a connected stream socket; its errors, and InvalidArgument if `socket` is
  // not one. `address` is for messages.
  static absl::StatusOr<std::unique_ptr<ShmControlChannel>> Open(UniqueFd socket,
                                                                 HandshakeSide side,
                                                                 const ShmDeadline& deadline,
                                                                 std::string address);

  absl::Status Send(std::span<const std::byte> message, absl::Duration timeout) override;
  absl::StatusOr<std::optional<std::vector<std::byte>>> Receive() override;
  int fd() const override { return socket_.get(); }
  std::string Describe() const override;

  const std::shared_ptr<const PeerProcess>& peer() const { return peer_; }

  // The second connection that the handshake made; invalid from the second call on.
  UniqueFd TakeRendezvous() { return std::move(rendezvous_); }

 private:
  static constexpr size_t kHeaderBytes = 8;

  ShmControlChannel(UniqueFd socket, HandshakeResult handshake, std::string address);

  // Marks the channel unusable and says where and why.
  absl::Status Break(const absl::Status& cause);
  // Reads into `room` from `filled` on; true when it is full, false when nothing more is there now.
  absl::StatusOr<bool> Fill(std::span<std::byte> room, size_t& filled);
  absl::Status StartMessage();

  const UniqueFd socket_;
  const std::shared_ptr<const PeerProcess> peer_;
  UniqueFd rendezvous_;
  const std::string address_;

  absl::Status broken_;
  // The message that is coming in.
  std::array<std::byte, kHeaderBytes> header_{};
  size_t header_filled_ = 0;
  std::vector<std::byte> message_;
  size_t message_filled_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SHM_CONTROL_CHANNEL_H_
