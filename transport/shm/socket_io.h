// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SOCKET_IO_H_
#define HAVEN_TRANSPORT_SHM_SOCKET_IO_H_

#include <sys/socket.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/shm/deadline.h"

namespace haven {

// Bytes over Unix sockets, with descriptors and credentials beside them (unix(7)). Every call
// passes MSG_DONTWAIT and MSG_NOSIGNAL, so it neither blocks nor raises SIGPIPE, whatever the flags
// of a descriptor are that a peer shares. All return Unavailable when the peer has closed and
// ResourceExhausted when a limit on descriptors is reached.

// Descriptors that may travel with one piece.
inline constexpr size_t kMaxAttachedFds = 2;

// What goes out beside the bytes.
struct Attachment {
  std::span<const int> fds = {};  // Stay open here.
  bool credentials = false;       // Stamp with this process' pid, uid and gid.
};

// What came in beside the bytes.
struct ReceivedPiece {
  size_t bytes = 0;
  std::vector<UniqueFd> fds;  // Close-on-exec.
  std::optional<ucred> sender;
  bool cut = false;  // More descriptors or bytes came than there was room for.
};

// One send(2): how many bytes went, 0 if there is no room now. `bytes` is not empty.
absl::StatusOr<size_t> SendPiece(int socket, std::span<const std::byte> bytes,
                                 const Attachment& attachment = {});

// One recv(2) into `room`; nullopt if nothing is there now. A zero-length packet counts as closing.
absl::StatusOr<std::optional<ReceivedPiece>> ReceivePiece(int socket, std::span<std::byte> room);

// Sends everything over a stream, with the attachment on its first byte. DeadlineExceeded: some
// bytes may have gone.
absl::Status SendAll(int socket, std::span<const std::byte> bytes, const ShmDeadline& deadline,
                     const Attachment& attachment = {});

// Fills `room` from a stream. DeadlineExceeded; DataLoss: the pieces had more than one sender.
absl::StatusOr<ReceivedPiece> ReceiveAll(int socket, std::span<std::byte> room,
                                         const ShmDeadline& deadline);

// OK if `fd` is a Unix socket of this type (SOCK_STREAM ...); else InvalidArgument.
absl::Status CheckUnixSocket(int fd, int type);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SOCKET_IO_H_
