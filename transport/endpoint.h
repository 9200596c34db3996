// SPDX-License-Identifier: Apache-2.0
//
// The seam to a kind of transport: how two processes find each other, exchange control messages and
// open links (DESIGN.md sections 3 and 7). transport/shm serves two processes of one host.
#ifndef HAVEN_TRANSPORT_ENDPOINT_H_
#define HAVEN_TRANSPORT_ENDPOINT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transport/fabric.h"

namespace haven {

inline constexpr size_t kChannelKeyBytes = 32;
using ChannelKey = std::array<std::byte, kChannelKeyBytes>;

// Ordered, authenticated messages between the two sides of one session. Not thread-safe.
class ControlChannel {
 public:
  virtual ~ControlChannel() = default;

  // Sends one message of 1 to kMaxMessageBytes bytes, whole or not at all. DeadlineExceeded: the
  // peer does not read (the channel is unusable afterwards); Unavailable: the channel is closed.
  virtual absl::Status Send(std::span<const std::byte> message, absl::Duration timeout) = 0;

  // The next whole message, or nullopt if none is there yet. Never blocks. Unavailable: the peer
  // has closed; DataLoss: it sent something malformed or too long; the channel is unusable after
  // either.
  virtual absl::StatusOr<std::optional<std::vector<std::byte>>> Receive() = 0;

  // Readable as long as a message waits that Receive() has not returned, and at its end; but for
  // what is buffered().
  virtual int fd() const = 0;
  // Whether something has been read from the descriptor that Receive() has not returned.
  virtual bool buffered() const { return false; }

  // A secret that the two ends of this very channel have in common and nobody else can know,
  // another one for each `context`. FailedPrecondition: such a channel has none.
  virtual absl::StatusOr<ChannelKey> ExportKey(uint64_t context) const;

  // For messages: "unix:/run/haven/b.sock pid 412".
  virtual std::string Describe() const = 0;

  static constexpr size_t kMaxMessageBytes = size_t{1} << 20;
};

inline absl::StatusOr<ChannelKey> ControlChannel::ExportKey(uint64_t /*context*/) const {
  return absl::FailedPreconditionError(
      "nothing can be sealed here: only a control channel with keys or certificates over TLS has a "
      "secret; leave --seal away, or --insecure");
}

// One side's memory and links in one session. Outlives every Link it made. Set-up thread only,
// but the Links may be used from one other thread each. Besides the errors named below, whatever
// talks to the peer returns DataLoss if it has sent something malformed and Unavailable if it is
// gone.
class Endpoint : public Fabric {
 public:
  // Describes a region to the peer, in a blob of at most 4096 bytes for a control message.
  virtual absl::StatusOr<std::string> Offer(const LocalRegion& region) = 0;

  // Makes the peer's offered region addressable. InvalidArgument: the blob is not sound.
  virtual absl::StatusOr<RemoteRegion> Import(absl::string_view blob, absl::Duration timeout) = 0;

  // Backup: prepares to accept one link and returns the blob that lets the primary connect to it,
  // once.
  virtual absl::StatusOr<std::string> PrepareLink() = 0;

  // Primary: opens the link that the blob describes. Backup: completes the links prepared, in
  // order. DeadlineExceeded, Unavailable (peer gone), PermissionDenied (wrong or used token),
  // InvalidArgument.
  virtual absl::StatusOr<std::unique_ptr<Link>> ConnectLink(absl::string_view blob,
                                                            absl::Duration timeout) = 0;
  virtual absl::StatusOr<std::unique_ptr<Link>> AcceptLink(absl::Duration timeout) = 0;
};

// Waits for peers at one address.
class Listener {
 public:
  virtual ~Listener() = default;
  // A connected descriptor that has exchanged nothing yet, to be given to a session process;
  // nullopt if nobody waits. Never blocks.
  virtual absl::StatusOr<std::optional<int>> Accept() = 0;
  virtual int fd() const = 0;
  virtual std::string address() const = 0;
};

// One kind of transport. Connect and Adopt may be called by several threads at once.
class Transport {
 public:
  virtual ~Transport() = default;

  // Listens at `address` ("unix:/path"). An empty address: one of the transport's choosing.
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(absl::string_view address) = 0;

  // Connects and authenticates. Unavailable: certainly nobody listens there now, with what to
  // check; DeadlineExceeded: no answer, or no way; Aborted: the peer has ended the connection.
  virtual absl::StatusOr<std::unique_ptr<ControlChannel>> Connect(absl::string_view address,
                                                                  absl::Duration timeout) = 0;

  // Takes an accepted descriptor (owned from here on) and authenticates its peer.
  virtual absl::StatusOr<std::unique_ptr<ControlChannel>> Adopt(int fd, absl::Duration timeout) = 0;

  // The memory side of a session on `channel`, a channel of this transport. A reconnected session
  // calls Attach on its endpoint with the new channel; regions stay registered.
  virtual absl::StatusOr<std::unique_ptr<Endpoint>> MakeEndpoint(ControlChannel& channel) = 0;
  virtual absl::Status Attach(Endpoint& endpoint, ControlChannel& channel) = 0;

  // What an operator has to see to although all is well, or seems so: a proof of who this side is
  // that has expired or soon will. Empty: nothing. May read files; thread-safe.
  virtual std::string Warning() { return {}; }
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_ENDPOINT_H_
