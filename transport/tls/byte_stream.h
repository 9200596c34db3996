// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_BYTE_STREAM_H_
#define HAVEN_TRANSPORT_TLS_BYTE_STREAM_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"

namespace haven {

// Bytes to and from a peer on a connected, non-blocking socket. Not thread-safe.
class ByteStream {
 public:
  // What a call that would have to wait waits for.
  enum class Wait : uint8_t { kNothing = 0, kReadable = 1, kWritable = 2 };
  struct Progress {
    size_t bytes = 0;  // At least one if `wait` is kNothing.
    Wait wait = Wait::kNothing;
  };

  virtual ~ByteStream() = default;

  // As many bytes as are there, or go, now. Unavailable: the peer has closed; DataLoss: what it
  // sent is not what was agreed on. The stream is unusable after an error.
  virtual absl::StatusOr<Progress> Read(std::span<std::byte> room) = 0;
  virtual absl::StatusOr<Progress> Write(std::span<const std::byte> bytes) = 0;

  // Whether what is sent is secret and the peer authenticated; only then are there secrets to
  // export.
  virtual bool secure() const { return false; }
  // Fills `secret` with what this stream's two ends alone can know, by `context` (RFC 8446 section
  // 7.5). Internal: it can not be made.
  virtual absl::Status ExportSecret(std::span<const std::byte> /*context*/,
                                    std::span<std::byte> /*secret*/) const {
    return absl::InternalError("a plain stream has no secret");
  }

  virtual int fd() const = 0;
  // Whether Read() has bytes, or a part of some, although fd() may not be readable.
  virtual bool buffered() const { return false; }
  // Who the peer has proved to be, for messages; empty if it has proved nothing.
  virtual std::string PeerName() const = 0;
};

// The socket as it is: nothing is secret and anybody may be the peer.
std::unique_ptr<ByteStream> MakePlainStream(UniqueFd socket);

// Reads into what is not `filled` yet of `room`. True once it is full, false if more is to come.
// Errors of Read.
absl::StatusOr<bool> Fill(ByteStream& stream, std::span<std::byte> room, size_t& filled);

// Non-blocking, closed on exec, no delay, and a dead peer noticed within half a minute even if
// nothing is sent. Errors of setsockopt(2).
absl::Status PrepareSocket(int socket);

// What errno says about a connection: Unavailable if the peer has gone.
absl::Status StreamError(int error, absl::string_view call);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_BYTE_STREAM_H_
