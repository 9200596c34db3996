// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/cm_channel.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {

absl::Status CmError(absl::string_view call) { return absl::ErrnoToStatus(errno, call); }

absl::StatusOr<CmChannel> CmChannel::Open() {
  rdma_event_channel* const channel = rdma_create_event_channel();
  if (channel == nullptr) {
    if (errno == EMFILE || errno == ENFILE) {
      return absl::ResourceExhaustedError("no descriptor left for an RDMA event channel");
    }
    return absl::UnavailableError(
        absl::StrCat("this host has no RDMA connection manager (", std::strerror(errno),
                     "); load ib_uverbs and rdma_ucm and the device's driver, or rdma_rxe"));
  }
  CmChannel result(channel);
  const int flags = fcntl(channel->fd, F_GETFL);
  if (flags < 0 || fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(channel->fd, F_SETFD, FD_CLOEXEC) != 0) {
    return CmError("fcntl of an RDMA event channel");
  }
  return result;
}

absl::StatusOr<UniqueCmId> CmChannel::MakeId() {
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(channel_.get(), &id, nullptr, RDMA_PS_TCP) != 0) {
    return CmError("rdma_create_id");
  }
  return UniqueCmId(id);
}

absl::Status CmChannel::Adopt(rdma_cm_id* id) {
  return rdma_migrate_id(id, channel_.get()) == 0 ? absl::OkStatus() : CmError("rdma_migrate_id");
}

absl::StatusOr<std::optional<CmEvent>> CmChannel::Next() {
  rdma_cm_event* raw = nullptr;
  if (rdma_get_cm_event(channel_.get(), &raw) != 0) {
    if (errno == EAGAIN || errno == EINTR) return std::nullopt;
    return CmError("rdma_get_cm_event");
  }
  CmEvent event = {.type = raw->event, .status = raw->status, .id = raw->id};
  event.listener = raw->listen_id;
  const rdma_conn_param& param = raw->param.conn;
  const bool has_data =
      raw->event == RDMA_CM_EVENT_CONNECT_REQUEST || raw->event == RDMA_CM_EVENT_REJECTED;
  if (has_data && param.private_data != nullptr) {
    event.data_bytes = std::min<size_t>(param.private_data_len, CmEvent::kMaxData);
    std::memcpy(event.room.data(), param.private_data, event.data_bytes);
  }
  rdma_ack_cm_event(raw);
  return event;
}

absl::StatusOr<CmEvent> CmChannel::Await(const NetDeadline& deadline, absl::string_view what) {
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<CmEvent> event, Next());
    if (event.has_value()) return *event;
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(fd(), POLLIN, deadline));
    if (!ready) return absl::DeadlineExceededError(absl::StrCat("waiting for ", what));
  }
}

}  // namespace haven
