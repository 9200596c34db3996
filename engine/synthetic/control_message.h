// SPDX-License-Identifier: Apache-2.0
//
// The messages between a synthetic guest and whoever controls it. Private to this folder.
#ifndef HAVEN_ENGINE_SYNTHETIC_CONTROL_MESSAGE_H_
#define HAVEN_ENGINE_SYNTHETIC_CONTROL_MESSAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"

namespace haven {

// What a request asks for. The reply has the same operation.
enum class GuestOp : uint16_t {
  // To anyone: the guest's state. Reply: values as in GuestQueryValue, text = spec.
  kQuery = 1,
  // To anyone: the guest ends; value 0 = DomainEnd.
  kEnd = 2,
  // To anyone: a fault; value 0 = SyntheticFault.
  kFault = 3,
  // Makes the sender the guest's controller. Reply: text = spec, value 0 = pid of the guest, and
  // the descriptors of GuestFd. Also sent unasked, with id 0, to the starter of a guest.
  kAttach = 4,

  // The rest is for the controller only. These two have no reply; value 0 of kSuspend = request id.
  kSuspend = 5,
  kResume = 6,
  kEnableLogDirty = 7,  // Reply: value 0 = count of breaks as on the status page.
  kDisableLogDirty = 8,

  kHold = 9,
  kBarrier = 10,
  kReleaseOne = 11,
  kOpenAll = 12,
  kRebuild = 13,
  kDiscard = 14,
  kRemove = 15,
  kGateStats = 16,  // Reply: values = held packets, held bytes, released, dropped.
  // To a waiting copy: payload = state record; then let it run, or first let it wait for whoever
  // attaches if its controller is gone. kRun is nothing to a guest that runs.
  kPrepare = 17,
  kRun = 18,
  kOutlive = 19,
};
inline constexpr uint16_t kMaxGuestOp = 19;

// Values of the reply to kQuery.
enum GuestQueryValue : size_t {
  kQueryPid = 0,
  kQueryController = 1,    // Pid of the attached engine; 0 if there is none.
  kQueryEnd = 2,           // DomainEnd.
  kQuerySuspended = 3,     // 1 while it stands still.
  kQueryWaiting = 4,       // 1: a copy that has not been let run.
  kQueryGateMode = 5,      // GateMode.
  kQueryNextSequence = 6,  // Number of the next packet.
  kQueryReleased = 7,
  kQueryHeld = 8,
  kQueryDropped = 9,
  kQueryWrites = 10,  // One value a vCPU from here on.
};

// Descriptors that come with a reply to kAttach, in this order.
enum GuestFd : size_t {
  kGuestMemoryFd = 0,  // Read-only, but for the controller of a waiting copy.
  kGuestBitmapFd = 1,
  kGuestStatusFd = 2,
  kGuestEventFd = 3,
  kGuestPidFd = 4,
};
inline constexpr size_t kGuestFds = 5;

// One request or reply. Holds its payload itself, so that the epoch path allocates nothing.
struct GuestMessage {
  static constexpr size_t kValues = 14;
  static constexpr size_t kMaxPayloadBytes = 856;

  GuestOp op = GuestOp::kQuery;
  // Of a reply: how the request ended; the message of an error is the payload.
  absl::StatusCode code = absl::StatusCode::kOk;
  // Chosen by the requester and returned in the reply.
  uint64_t id = 0;
  std::array<uint64_t, kValues> values{};
  uint16_t payload_bytes = 0;
  std::array<std::byte, kMaxPayloadBytes> payload_room{};

  std::span<const std::byte> payload() const {
    return std::span(payload_room).first(payload_bytes);
  }
  absl::string_view text() const;
  // Cuts what is too long.
  void SetText(absl::string_view text);
  void SetError(const absl::Status& status);
};

// Size of every message on the socket, a sequenced-packet one.
inline constexpr size_t kGuestMessageBytes = 1000;

// `out` has kGuestMessageBytes bytes.
void EncodeGuestMessage(const GuestMessage& message, std::span<std::byte> out);

// InvalidArgument names the field: size, magic, version, operation, code, payload length.
absl::Status DecodeGuestMessage(std::span<const std::byte> bytes, GuestMessage& message);

// Sends one message, with descriptors if any. Never blocks. Unavailable: the peer is gone.
// ResourceExhausted: the peer does not read.
absl::Status SendGuestMessage(int socket, const GuestMessage& message,
                              std::span<const int> fds = {});

enum class Received : uint8_t { kMessage, kNothing, kClosed };

// Takes the next message if there is one. Never blocks. InvalidArgument: it is not sound, and the
// socket must be closed. Descriptors that come along are added to `fds`; without it none are taken.
absl::StatusOr<Received> ReceiveGuestMessage(int socket, GuestMessage& message,
                                             std::vector<UniqueFd>* fds = nullptr);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_CONTROL_MESSAGE_H_
