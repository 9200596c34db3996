// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rdma_device.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// What comes beyond that is looked at when the descriptor is found readable again.
constexpr int kMaxEventsPerCall = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<RdmaDevice>> RdmaDevice::Open(const InetAddress& local) {
  HAVEN_ASSIGN_OR_RETURN(CmChannel channel, CmChannel::Open());
  HAVEN_ASSIGN_OR_RETURN(UniqueCmId bound, channel.MakeId());
  InetAddress address = local.WithPort(0);
  if (rdma_bind_addr(bound.get(), address.mutable_sockaddr()) != 0) {
    if (errno == ENODEV || errno == EADDRNOTAVAIL || errno == EINVAL) return nullptr;
    return CmError(absl::StrCat("bind RDMA to ", address.Host()));
  }
  if (bound->verbs == nullptr) return nullptr;
  std::unique_ptr<RdmaDevice> device(new RdmaDevice(std::move(channel), std::move(bound)));
  HAVEN_RETURN_IF_ERROR(device->WatchEvents());
  return device;
}

absl::Status RdmaDevice::WatchEvents() {
  const int async_fd = context()->async_fd;
  const int flags = fcntl(async_fd, F_GETFL);
  if (flags < 0 || fcntl(async_fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return absl::ErrnoToStatus(errno, "fcntl of a device's events");
  }
  events_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!events_) return absl::ErrnoToStatus(errno, "epoll_create1");
  for (const int fd : {async_fd, channel_.fd()}) {
    epoll_event readable = {.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &readable) != 0) {
      return absl::ErrnoToStatus(errno, "epoll_ctl");
    }
  }
  return absl::OkStatus();
}

RdmaDevice::~RdmaDevice() {
  if (removed_) LetGo();
}

// librdmacm keeps the context of a device as long as the process lives, or until it happens to look
// for devices and finds others only; until then the kernel would wait. So its descriptors are
// replaced by ones that stand for nothing, under the same numbers: librdmacm closes those in its
// time.
void RdmaDevice::LetGo() {
  events_.reset();
  const UniqueFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  const bool closed = nothing.valid() && dup3(nothing.get(), context()->cmd_fd, O_CLOEXEC) >= 0 &&
                      dup3(nothing.get(), context()->async_fd, O_CLOEXEC) >= 0;
  if (closed) {
    HAVEN_LOG(kInfo, "verbs") << "RDMA device " << name() << " is closed and can be removed";
  } else {
    HAVEN_LOG(kError, "verbs") << "RDMA device " << name() << " can not be closed: "
                               << absl::ErrnoToStatus(errno, "dup3").message()
                               << "; its removal waits for the end of this process";
  }
}

bool RdmaDevice::TakeRemoval() {
  const bool by_manager = TakeConnectionEvents();
  const bool by_device = TakeDeviceEvents();
  removed_ = removed_ || by_manager || by_device;
  return removed_;
}

bool RdmaDevice::TakeConnectionEvents() {
  bool removed = false;
  for (int i = 0; i < kMaxEventsPerCall; ++i) {
    const absl::StatusOr<std::optional<CmEvent>> event = channel_.Next();
    if (!event.ok() || !event->has_value()) break;
    removed = removed || (*event)->type == RDMA_CM_EVENT_DEVICE_REMOVAL;
  }
  return removed;
}

bool RdmaDevice::TakeDeviceEvents() {
  bool fatal = false;
  for (int i = 0; i < kMaxEventsPerCall; ++i) {
    ibv_async_event event = {};
    if (ibv_get_async_event(context(), &event) != 0) break;
    if (event.event_type == IBV_EVENT_DEVICE_FATAL) {
      fatal = true;
    } else if (event.event_type == IBV_EVENT_PORT_ERR ||
               event.event_type == IBV_EVENT_PORT_ACTIVE) {
      // Its links notice by themselves; a port that comes back serves the next one.
      HAVEN_LOG(kWarning, "verbs") << "RDMA device " << name() << " port " << event.element.port_num
                                   << ": " << ibv_event_type_str(event.event_type);
    }
    // A queue pair can not be destroyed while one of its events is not acknowledged.
    ibv_ack_async_event(&event);
  }
  return fatal;
}

}  // namespace haven
