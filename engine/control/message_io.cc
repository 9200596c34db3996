// SPDX-License-Identifier: Apache-2.0
#include "engine/control/message_io.h"

#include <poll.h>

#include <cerrno>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// For a message to a peer that is about to be left.
constexpr absl::Duration kLastWordTimeout = absl::Milliseconds(50);

}  // namespace

absl::Status SendMessage(ControlChannel& channel, const ControlMessage& message,
                         absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, EncodeControlMessage(message));
  return channel.Send(bytes, timeout);
}

absl::StatusOr<std::optional<ControlMessage>> ReceiveMessage(ControlChannel& channel) {
  HAVEN_ASSIGN_OR_RETURN(const std::optional<std::vector<std::byte>> bytes, channel.Receive());
  if (!bytes.has_value()) return std::nullopt;
  absl::StatusOr<ControlMessage> message = DecodeControlMessage(*bytes);
  if (!message.ok()) {
    return absl::DataLossError(
        absl::StrCat(channel.Describe(), " has sent garbage: ", message.status().message()));
  }
  return *std::move(message);
}

absl::StatusOr<ControlMessage> WaitForMessage(ControlChannel& channel, const TimeLimit& limit,
                                              const Cancel& cancel) {
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(std::optional<ControlMessage> message, ReceiveMessage(channel));
    if (message.has_value()) return *std::move(message);
    if (cancel.is_set()) return absl::CancelledError("nobody waits for this answer any more");
    if (limit.Passed()) {
      return absl::DeadlineExceededError(
          absl::StrCat(channel.Describe(), " does not answer; look at its log"));
    }
    pollfd watched[2] = {{.fd = channel.fd(), .events = POLLIN, .revents = 0},
                         {.fd = cancel.fd(), .events = POLLIN, .revents = 0}};
    if (poll(watched, 2, limit.PollMs()) < 0 && errno != EINTR) {
      return absl::ErrnoToStatus(errno, "poll for a control message");
    }
  }
}

absl::StatusOr<ControlMessage> HearFirst(ControlChannel& channel, const TimeLimit& limit,
                                         const Cancel& cancel) {
  absl::StatusOr<ControlMessage> message = WaitForMessage(channel, limit, cancel);
  if (absl::IsDataLoss(message.status())) {
    const Refuse refuse = {RefuseCode::kVersion, std::string(message.status().message())};
    SendMessage(channel, refuse, kLastWordTimeout).IgnoreError();
  }
  return message;
}

absl::Status RefuseStatus(const Refuse& refuse) {
  const std::string text =
      absl::StrCat("the peer refuses (", RefuseCodeName(refuse.code), "): ", refuse.message);
  if (refuse.code == RefuseCode::kNotReady || refuse.code == RefuseCode::kGroupBusy) {
    return absl::UnavailableError(text);
  }
  return absl::FailedPreconditionError(text);
}

}  // namespace haven
