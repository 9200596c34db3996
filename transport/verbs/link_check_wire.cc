// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/link_check_wire.h"

#include <poll.h>

#include <optional>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "transport/tls/deadline.h"

namespace haven {

absl::Status SendCheck(ControlChannel& channel, absl::string_view word, absl::string_view body) {
  const std::string text = absl::StrCat(word, "\n", body);
  return channel.Send(std::as_bytes(std::span(text.data(), text.size())), kCheckTimeout);
}

absl::StatusOr<CheckMessage> ReceiveCheck(ControlChannel& channel) {
  const NetDeadline deadline(kCheckTimeout);
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<std::vector<std::byte>> bytes, channel.Receive());
    if (bytes.has_value()) {
      const std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
      const size_t end = text.find('\n');
      if (end == std::string::npos) return absl::DataLossError("an order without an end");
      return CheckMessage{text.substr(0, end), text.substr(end + 1)};
    }
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(channel.fd(), POLLIN, deadline));
    if (!ready) return absl::DeadlineExceededError("the other process says nothing");
  }
}

absl::StatusOr<Completion> NextCompletion(Link& link, absl::Duration timeout) {
  const NetDeadline deadline(timeout);
  Completion completion;
  for (;;) {
    if (link.Poll({&completion, 1}) == 1) return completion;
    HAVEN_RETURN_IF_ERROR(link.ArmEvent());
    if (link.Poll({&completion, 1}) == 1) return completion;
    HAVEN_ASSIGN_OR_RETURN(const bool ready,
                           WaitForFd(link.event_fd(), POLLIN, deadline.AtMost(absl::Seconds(1))));
    if (!ready && deadline.Passed()) {
      return absl::DeadlineExceededError("no completion has come");
    }
  }
}

}  // namespace haven
