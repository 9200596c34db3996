// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/queue_pair.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// Which of the two descriptors an event of epoll is for.
constexpr uint32_t kCompletionTag = 0;
constexpr uint32_t kConnectionTag = 1;

// A peer that floods the connection's channel only delays itself.
constexpr int kMaxEventsPerCall = 16;

absl::Status QueueError(const Rail& rail, absl::string_view what, int error) {
  const std::string message =
      absl::StrCat(rail.Describe(), ": ", what, ": ", absl::ErrnoToStatus(error, "").message());
  if (error == ENOMEM || error == EAGAIN) {
    return absl::ResourceExhaustedError(absl::StrCat(
        message, "; the device allows no more, or RLIMIT_MEMLOCK is too small for its queues"));
  }
  return absl::Status(absl::ErrnoToStatus(error, "").code(), message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CmQueuePair>> CmQueuePair::Make(const Rail& rail, CmChannel channel,
                                                               UniqueCmId id) {
  HAVEN_ASSIGN_OR_RETURN(std::shared_ptr<ibv_pd> pd, rail.OpenPd());
  if (id->verbs != pd->context) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the connection goes through ",
        id->verbs == nullptr ? "no device" : ibv_get_device_name(id->verbs->device), ", not ",
        rail.Describe(), "; check the routes between the two hosts' addresses"));
  }
  std::unique_ptr<CmQueuePair> pair(
      new CmQueuePair(std::move(pd), std::move(channel), std::move(id)));
  HAVEN_RETURN_IF_ERROR(pair->MakeQueues(rail));
  HAVEN_RETURN_IF_ERROR(pair->WatchEvents());
  return pair;
}

absl::Status CmQueuePair::MakeQueues(const Rail& rail) {
  const DeviceLimits& limits = rail.limits();
  completion_channel_ = ibv_create_comp_channel(pd_->context);
  if (completion_channel_ == nullptr) return QueueError(rail, "a completion channel", errno);
  cq_ = ibv_create_cq(pd_->context, static_cast<int>(limits.completion_depth), nullptr,
                      completion_channel_, 0);
  if (cq_ == nullptr) return QueueError(rail, "a completion queue", errno);
  // Not every device says how much it takes inline; it refuses what is too much.
  for (uint32_t inline_bytes = limits.inline_bytes;; inline_bytes = LessInlineBytes(inline_bytes)) {
    ibv_qp_init_attr attributes = {};
    attributes.send_cq = cq_;
    attributes.recv_cq = cq_;
    attributes.qp_type = IBV_QPT_RC;
    attributes.cap.max_send_wr = limits.send_depth;
    attributes.cap.max_recv_wr = limits.receive_depth;
    attributes.cap.max_send_sge = 1;
    attributes.cap.max_recv_sge = 1;
    attributes.cap.max_inline_data = inline_bytes;
    if (rdma_create_qp(id_.get(), pd_.get(), &attributes) == 0) {
      limits_ = {.send_depth = limits.send_depth,
                 .receive_depth = limits.receive_depth,
                 .inline_bytes = attributes.cap.max_inline_data,
                 .write_bytes = limits.write_bytes};
      break;
    }
    if (inline_bytes == 0) return QueueError(rail, "a queue pair", errno);
  }
  name_ = absl::StrCat("queue pair ", id_->qp->qp_num, " on ", rail.Describe());
  return absl::OkStatus();
}

absl::Status CmQueuePair::WatchEvents() {
  const int flags = fcntl(completion_channel_->fd, F_GETFL);
  if (flags < 0 || fcntl(completion_channel_->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return absl::ErrnoToStatus(errno, "fcntl of a completion channel");
  }
  events_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!events_) return absl::ErrnoToStatus(errno, "epoll_create1");
  epoll_event completion = {.events = EPOLLIN, .data = {.u32 = kCompletionTag}};
  epoll_event connection = {.events = EPOLLIN, .data = {.u32 = kConnectionTag}};
  if (epoll_ctl(events_.get(), EPOLL_CTL_ADD, completion_channel_->fd, &completion) != 0 ||
      epoll_ctl(events_.get(), EPOLL_CTL_ADD, channel_.fd(), &connection) != 0) {
    return absl::ErrnoToStatus(errno, "epoll_ctl");
  }
  return absl::OkStatus();
}

CmQueuePair::~CmQueuePair() {
  const absl::Status destroyed = Destroy();
  if (!destroyed.ok()) HAVEN_LOG(kError, "verbs") << destroyed;
}

absl::Status CmQueuePair::Settle(const QueuePairOptions& options) {
  ibv_qp_attr attributes = {};
  attributes.min_rnr_timer = options.rnr_timer;
  const int error = ibv_modify_qp(id_->qp, &attributes, IBV_QP_MIN_RNR_TIMER);
  if (error == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(name_, ": the receive timer can not be set, the connection is down again: ",
                   absl::ErrnoToStatus(error, "ibv_modify_qp").message()));
}

QueuePair::Events CmQueuePair::TakeEvents() {
  std::array<epoll_event, 2> ready;
  const int count = epoll_wait(events_.get(), ready.data(), static_cast<int>(ready.size()), 0);
  Events events;
  for (int i = 0; i < count; ++i) {
    if (ready[static_cast<size_t>(i)].data.u32 == kCompletionTag) {
      events.completion = TakeCompletionEvents();
    } else {
      events.disconnected = TakeConnectionEvents();
    }
  }
  return events;
}

// Acknowledged when the queue is destroyed, all at once: each acknowledgement takes a lock.
bool CmQueuePair::TakeCompletionEvents() {
  bool any = false;
  for (int i = 0; i < kMaxEventsPerCall; ++i) {
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    if (ibv_get_cq_event(completion_channel_, &cq, &context) != 0) break;
    ++unacknowledged_;
    any = true;
  }
  return any;
}

bool CmQueuePair::TakeConnectionEvents() {
  for (int i = 0; i < kMaxEventsPerCall; ++i) {
    const absl::StatusOr<std::optional<CmEvent>> event = channel_.Next();
    if (!event.ok()) return true;
    if (!event->has_value()) return false;
    switch ((*event)->type) {
      case RDMA_CM_EVENT_DISCONNECTED:
      case RDMA_CM_EVENT_DEVICE_REMOVAL:
      case RDMA_CM_EVENT_TIMEWAIT_EXIT:
      case RDMA_CM_EVENT_ADDR_CHANGE:
        return true;
      default:
        break;
    }
  }
  return false;
}

void CmQueuePair::MoveToError() {
  if (id_ == nullptr || id_->qp == nullptr) return;
  ibv_qp_attr attributes = {};
  attributes.qp_state = IBV_QPS_ERR;
  static_cast<void>(ibv_modify_qp(id_->qp, &attributes, IBV_QP_STATE));
}

absl::Status CmQueuePair::TakePermission() {
  if (id_ == nullptr || id_->qp == nullptr) return absl::OkStatus();
  ibv_qp_attr attributes = {};
  attributes.qp_access_flags = 0;
  const int error = ibv_modify_qp(id_->qp, &attributes, IBV_QP_ACCESS_FLAGS);
  if (error == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(error, absl::StrCat(name_, ": taking the permission away"));
}

absl::Status CmQueuePair::Destroy() {
  if (id_ != nullptr && id_->qp != nullptr) {
    // Not rdma_destroy_qp, which does not say whether it has succeeded.
    const int error = ibv_destroy_qp(id_->qp);
    // EIO: the device was taken away, and the kernel has destroyed what was on it.
    if (error != 0 && error != EIO) {
      return absl::InternalError(
          absl::StrCat(name_, " can not be destroyed: ", absl::ErrnoToStatus(error, "").message(),
                       "; the peer may still write here"));
    }
    id_->qp = nullptr;
  }
  if (cq_ != nullptr) {
    ibv_ack_cq_events(cq_, std::exchange(unacknowledged_, 0));
    if (ibv_destroy_cq(cq_) != 0) HAVEN_LOG(kWarning, "verbs") << name_ << ": its queue is left";
    cq_ = nullptr;
  }
  if (completion_channel_ != nullptr) {
    if (events_) epoll_ctl(events_.get(), EPOLL_CTL_DEL, completion_channel_->fd, nullptr);
    ibv_destroy_comp_channel(completion_channel_);
    completion_channel_ = nullptr;
  }
  // Tells the peer, too.
  id_.reset();
  pd_.reset();
  return absl::OkStatus();
}

}  // namespace haven
