// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_CM_CHANNEL_H_
#define HAVEN_TRANSPORT_VERBS_CM_CHANNEL_H_

#include <rdma/rdma_cma.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/tls/deadline.h"

namespace haven {

// An identifier of librdmacm: a connection, a listener, or an address bound to a device. It must
// not outlive its channel. Its queue pair, if it has one, was destroyed before.
struct CmIdDeleter {
  void operator()(rdma_cm_id* id) const { rdma_destroy_id(id); }
};
using UniqueCmId = std::unique_ptr<rdma_cm_id, CmIdDeleter>;

// A copy of an event, which is acknowledged at once: an identifier can not be destroyed while one
// of its events is not.
struct CmEvent {
  static constexpr size_t kMaxData = 256;

  rdma_cm_event_type type = RDMA_CM_EVENT_ADDR_ERROR;
  int status = 0;
  rdma_cm_id* id = nullptr;        // Of a new connection for CONNECT_REQUEST, else the event's own.
  rdma_cm_id* listener = nullptr;  // For CONNECT_REQUEST.
  std::array<std::byte, kMaxData> room = {};
  size_t data_bytes = 0;

  std::span<const std::byte> data() const { return std::span(room).first(data_bytes); }
};

// Where events of librdmacm arrive. Non-blocking. Not thread-safe.
class CmChannel {
 public:
  // Unavailable: no RDMA on this host, with what to load; ResourceExhausted: no descriptor left.
  static absl::StatusOr<CmChannel> Open();

  // A fresh identifier of a reliable connection, without an address.
  absl::StatusOr<UniqueCmId> MakeId();
  // Makes the events of `id`, none of which waits, arrive here.
  absl::Status Adopt(rdma_cm_id* id);

  // The next event, or nullopt if none waits.
  absl::StatusOr<std::optional<CmEvent>> Next();
  // Waits for one. DeadlineExceeded names `what` was waited for.
  absl::StatusOr<CmEvent> Await(const NetDeadline& deadline, absl::string_view what);

  int fd() const { return channel_->fd; }

 private:
  struct Deleter {
    void operator()(rdma_event_channel* channel) const { rdma_destroy_event_channel(channel); }
  };
  explicit CmChannel(rdma_event_channel* channel) : channel_(channel) {}

  std::unique_ptr<rdma_event_channel, Deleter> channel_;
};

// What a failed call of librdmacm left in errno, with the call's name.
absl::Status CmError(absl::string_view call);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_CM_CHANNEL_H_
