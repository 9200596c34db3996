// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_STORE_CHANNEL_H_
#define HAVEN_XEN_BASE_STORE_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/control/time_limit.h"

struct xsd_sockmsg;

namespace haven {

// Requests to the store's daemon and its answers, in its own protocol (xen/io/xs_wire.h): the calls
// of libxenstore wait for as long as the daemon takes. One thread.
class StoreChannel {
 public:
  struct Request {
    uint32_t type = 0;  // XS_*
    uint32_t transaction = 0;
    std::string payload;
    std::string what;  // For messages: "read PATH".
  };

  // The descriptor does not block.
  StoreChannel(UniqueFd connection, absl::Duration patience);

  // The payload of the answer. NotFound, PermissionDenied, Aborted (the transaction), Internal: the
  // daemon's error; InvalidArgument: the request is too long; DeadlineExceeded: no answer by then,
  // or an older one is owed for longer than `patience`, and nothing was asked; Unavailable: the
  // connection is gone for good.
  absl::StatusOr<std::string> Ask(const Request& request, const TimeLimit& limit);
  // The same without waiting. An answer that is an error is logged.
  absl::Status Post(const Request& request);
  // The same, also to a daemon that is silent: it will come to it.
  absl::Status Tell(const Request& request) { return Send(request, /*awaited=*/false); }

  // Whether something that is watched was announced since the last call. Does not block.
  bool TakeEvents();
  int fd() const { return connection_.get(); }

 private:
  // One that has no answer yet.
  struct Asked {
    uint32_t id = 0;
    int64_t since_ns = 0;
    bool awaited = false;
    std::string what;
  };

  absl::Status CheckAnswers();
  std::string Silence() const;
  absl::Status Send(const Request& request, bool awaited);
  absl::Status Break(absl::string_view cause);
  void Receive();
  void TakeMessages();
  void TakeMessage(const xsd_sockmsg& header, absl::string_view payload);

  const UniqueFd connection_;
  const absl::Duration patience_;
  std::string in_;           // The beginning of a message.
  std::deque<Asked> asked_;  // In the order of their sending.
  uint32_t last_id_ = 0;
  std::optional<absl::StatusOr<std::string>> answer_;  // To what is awaited.
  bool announced_ = false;
  absl::Status broken_;
};

// The request that ends a transaction, and keeps its changes or not.
StoreChannel::Request EndOfTransaction(uint32_t transaction, bool keep);
// The transaction that an answer tells of.
uint32_t TransactionOf(const std::string& answer);
// A string as the protocol wants it, with its end.
std::string Terminated(const std::string& text);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_STORE_CHANNEL_H_
