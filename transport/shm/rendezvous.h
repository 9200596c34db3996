// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_RENDEZVOUS_H_
#define HAVEN_TRANSPORT_SHM_RENDEZVOUS_H_

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"
#include "transport/shm/deadline.h"
#include "transport/shm/random_token.h"

namespace haven {

// What a packet of the rendezvous announces, and so which descriptors it carries.
enum class RendezvousKind : uint16_t {
  kRegion = 1,     // One: the region's memory.
  kLink = 2,       // Two: the link's memory, and the receiver's end of its wake-up socket.
  kConnected = 3,  // None: the link of this token is in use on the other side.
};

// Most packets that wait to be claimed.
inline constexpr size_t kMaxUnclaimed = 80;

// The second connection of a control channel (handshake.h): a packet socket over which descriptors
// travel, each packet under a token that the blobs of transport/endpoint.h name. A packet is in the
// receiver's queue before the blob that names it has been handed out, so there is never a need to
// wait for one, but for kConnected, which answers. One thread.
class Rendezvous {
 public:
  // `peer_name` is for messages.
  Rendezvous(UniqueFd socket, absl::string_view peer_name);

  // Sends one packet; `fds` stay open here. Unavailable: the peer has closed; DeadlineExceeded: it
  // does not take its packets; ResourceExhausted: too many descriptors are on their way.
  absl::Status Send(RendezvousKind kind, const Token& token, std::span<const int> fds,
                    const ShmDeadline& deadline);

  // Takes the descriptors that came in a packet of this kind under this token; nullopt if none has
  // come. DataLoss: the peer has sent something malformed, or more than kMaxUnclaimed unclaimed
  // packets; the rendezvous is unusable from then on.
  absl::StatusOr<std::optional<std::vector<UniqueFd>>> Claim(RendezvousKind kind,
                                                             const Token& token);

  // True once the peer has closed its end; what it sent before can still be claimed.
  bool hung_up() const { return hung_up_; }

  // Waits until a packet can be claimed and claims it. DeadlineExceeded; Unavailable: the peer has
  // closed and has not sent it; DataLoss as above.
  absl::Status Await(RendezvousKind kind, const Token& token, const ShmDeadline& deadline);

 private:
  struct Packet {
    RendezvousKind kind;
    Token token;
    std::vector<UniqueFd> fds;
  };

  // Moves what has come into `unclaimed_`.
  absl::Status Drain();
  absl::Status Store(std::span<const std::byte> record, std::vector<UniqueFd> fds, bool cut);
  absl::Status Break(absl::Status cause);

  const UniqueFd socket_;
  const std::string peer_name_;
  std::list<Packet> unclaimed_;
  bool hung_up_ = false;
  absl::Status broken_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_RENDEZVOUS_H_
