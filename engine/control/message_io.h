// SPDX-License-Identifier: Apache-2.0
//
// Control messages over a channel.
#ifndef HAVEN_ENGINE_CONTROL_MESSAGE_IO_H_
#define HAVEN_ENGINE_CONTROL_MESSAGE_IO_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/control/cancel.h"
#include "engine/control/time_limit.h"
#include "engine/replica/control_message.h"
#include "transport/endpoint.h"

namespace haven {

// Encodes and sends. InvalidArgument: the message breaks a rule of its format, nothing was sent;
// else the errors of ControlChannel::Send.
absl::Status SendMessage(ControlChannel& channel, const ControlMessage& message,
                         absl::Duration timeout);

// The next message, nullopt if none is there. Never blocks. DataLoss: the peer has sent something
// that is no message, which is named together with the channel; else the errors of
// ControlChannel::Receive. The channel is of no more use after an error.
absl::StatusOr<std::optional<ControlMessage>> ReceiveMessage(ControlChannel& channel);

// Waits for the next message. DeadlineExceeded; Cancelled; else as above.
absl::StatusOr<ControlMessage> WaitForMessage(ControlChannel& channel, const TimeLimit& limit,
                                              const Cancel& cancel);

// As above, for the first message of a connection: a peer whose message can not be understood is
// told so before the error is returned.
absl::StatusOr<ControlMessage> HearFirst(ControlChannel& channel, const TimeLimit& limit,
                                         const Cancel& cancel);

// The Refuse as an error, with the peer's words and what to do: FailedPrecondition, or Unavailable
// for what may pass by itself.
absl::Status RefuseStatus(const Refuse& refuse);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_MESSAGE_IO_H_
