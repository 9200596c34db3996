// SPDX-License-Identifier: Apache-2.0
//
// The requesting side of a synthetic guest's control socket.
#ifndef HAVEN_ENGINE_SYNTHETIC_GUEST_CHANNEL_H_
#define HAVEN_ENGINE_SYNTHETIC_GUEST_CHANNEL_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/synthetic/control_message.h"

namespace haven {

// Requests and replies on one connection. Allocates nothing unless something fails. One thread at a
// time.
class GuestChannel {
 public:
  // What a guest needs for any request but kPrepare, unless it hangs or the host is overloaded.
  static constexpr absl::Duration kTimeout = absl::Seconds(2);

  // `name` is the guest's, for messages.
  GuestChannel(std::string name, UniqueFd socket)
      : name_(std::move(name)), socket_(std::move(socket)) {}

  // Sends a request that has a reply. Unavailable: the guest is gone or does not read.
  absl::Status Begin(GuestMessage& request);

  // Waits for the reply to the last request begun and stores it in `reply`; replies to earlier
  // requests that were given up are skipped. The guest's own error; Unavailable: it is gone;
  // DeadlineExceeded: no reply, so that it is not known whether the request was carried out.
  absl::Status Finish(GuestMessage& reply, absl::Duration timeout = kTimeout,
                      std::vector<UniqueFd>* fds = nullptr);

  // Both.
  absl::Status Call(GuestMessage& message, absl::Duration timeout = kTimeout,
                    std::vector<UniqueFd>* fds = nullptr);
  absl::Status Call(GuestOp op);

  // Sends a request that has no reply.
  absl::Status Post(GuestOp op, uint64_t value);

  // Closes the connection; everything fails with Unavailable from then on.
  void Close() { socket_.reset(); }

  const std::string& name() const { return name_; }

 private:
  absl::Status Send(const GuestMessage& message);

  const std::string name_;
  UniqueFd socket_;
  uint64_t last_id_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_GUEST_CHANNEL_H_
