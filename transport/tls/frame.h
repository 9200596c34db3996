// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_FRAME_H_
#define HAVEN_TRANSPORT_TLS_FRAME_H_

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/tls/byte_stream.h"

namespace haven {

// What a control channel over TCP puts around the engine's messages, all of it little-endian.
//
// First from each side, once:   magic u32, version u16, reserved u16, incarnation [16]
// Before every message:         magic u32, bytes of the message u32

inline constexpr size_t kIncarnationBytes = 16;

// An unguessable name of one process, by which the other side knows whether a new connection leads
// to the same one.
using Incarnation = std::array<std::byte, kIncarnationBytes>;

inline constexpr size_t kGreetingBytes = 4 + 2 + 2 + kIncarnationBytes;
using Greeting = std::array<std::byte, kGreetingBytes>;

Greeting EncodeGreeting(const Incarnation& own);
// Whose it is. DataLoss: it is no greeting; FailedPrecondition: of another version.
absl::StatusOr<Incarnation> DecodeGreeting(const Greeting& greeting);

// Makes `frame` the message of 1 to ControlChannel::kMaxMessageBytes bytes behind its header.
void EncodeFrame(std::span<const std::byte> message, std::vector<std::byte>& frame);

// Takes the messages off a stream, in whatever pieces they come. Holds no more memory than one
// message of the largest size, and none before a header that allows it. Not thread-safe.
class MessageReader {
 public:
  // The next message, or nothing if it is not all there yet. Errors of ByteStream::Read; DataLoss:
  // what comes is no message. Not to be called again after an error.
  absl::StatusOr<std::optional<std::vector<std::byte>>> Read(ByteStream& stream);

 private:
  static constexpr size_t kHeaderBytes = 8;

  absl::Status Start();

  std::array<std::byte, kHeaderBytes> header_ = {};
  size_t header_filled_ = 0;
  std::vector<std::byte> message_;  // Of the announced size while it is being received.
  size_t message_filled_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_FRAME_H_
