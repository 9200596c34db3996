// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/guest_channel.h"

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/wait_for.h"

namespace haven {

absl::Status GuestChannel::Send(const GuestMessage& message) {
  if (!socket_) {
    return absl::UnavailableError(absl::StrCat("synthetic guest ", name_, ": not connected"));
  }
  const absl::Status sent = SendGuestMessage(socket_.get(), message);
  if (sent.ok()) return sent;
  return absl::UnavailableError(absl::StrCat("synthetic guest ", name_, ": ", sent.message()));
}

absl::Status GuestChannel::Begin(GuestMessage& request) {
  request.id = ++last_id_;
  request.code = absl::StatusCode::kOk;
  return Send(request);
}

absl::Status GuestChannel::Finish(GuestMessage& reply, absl::Duration timeout,
                                  std::vector<UniqueFd>* fds) {
  const int64_t deadline_ns = SystemClock::Get().NowNs() + absl::ToInt64Nanoseconds(timeout);
  while (true) {
    const absl::StatusOr<Received> received = ReceiveGuestMessage(socket_.get(), reply, fds);
    HAVEN_RETURN_IF_ERROR(received.status());
    if (*received == Received::kClosed) {
      return absl::UnavailableError(
          absl::StrCat("synthetic guest ", name_, ": it has closed the connection or is dead"));
    }
    if (*received == Received::kMessage && reply.id == last_id_) break;
    if (*received == Received::kNothing && !WaitReadable(socket_.get(), deadline_ns)) {
      return absl::DeadlineExceededError(absl::StrCat(
          "synthetic guest ", name_, ": no answer within ", absl::FormatDuration(timeout)));
    }
  }
  if (reply.code == absl::StatusCode::kOk) return absl::OkStatus();
  return absl::Status(reply.code, reply.text());
}

absl::Status GuestChannel::Call(GuestMessage& message, absl::Duration timeout,
                                std::vector<UniqueFd>* fds) {
  HAVEN_RETURN_IF_ERROR(Begin(message));
  return Finish(message, timeout, fds);
}

absl::Status GuestChannel::Call(GuestOp op) {
  GuestMessage message;
  message.op = op;
  return Call(message);
}

absl::Status GuestChannel::Post(GuestOp op, uint64_t value) {
  GuestMessage message;
  message.op = op;
  message.values[0] = value;
  return Send(message);
}

}  // namespace haven
