// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device_registry.h"

#include <sys/epoll.h>

#include <cerrno>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

DeviceRegistry::~DeviceRegistry() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    if (wake_.has_value()) wake_->Signal();
  }
  thread_.Join();
}

absl::StatusOr<DeviceRegistry::Port> DeviceRegistry::Open(const InetAddress& local) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<RdmaDevice> opened, RdmaDevice::Open(local));
  if (opened == nullptr) return Port();
  const uint8_t number = opened->port();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const std::shared_ptr<RdmaDevice>& device : devices_) {
    if (device->context() == opened->context()) return Port{device, number};
  }
  HAVEN_RETURN_IF_ERROR(StartLocked());
  HAVEN_RETURN_IF_ERROR(WatchLocked(opened->fd()));
  devices_.push_back(std::move(opened));
  return Port{devices_.back(), number};
}

absl::Status DeviceRegistry::StartLocked() {
  if (wake_.has_value()) return absl::OkStatus();
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return absl::ErrnoToStatus(errno, "epoll_create1");
  HAVEN_ASSIGN_OR_RETURN(WakeFd wake, WakeFd::Create());
  HAVEN_RETURN_IF_ERROR(WatchLocked(wake.fd()));
  HAVEN_ASSIGN_OR_RETURN(thread_, Thread::Start("haven-devices", [this] { Watch(); }));
  wake_.emplace(std::move(wake));
  return absl::OkStatus();
}

absl::Status DeviceRegistry::WatchLocked(int fd) const {
  epoll_event readable = {.events = EPOLLIN, .data = {.fd = fd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &readable) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "epoll_ctl");
}

std::unique_ptr<DeviceRegistry::Subscription> DeviceRegistry::Subscribe(Removed removed) {
  auto subscription = std::make_unique<Subscription>(*this);
  const std::lock_guard<std::mutex> lock(mutex_);
  subscribers_.push_back({subscription.get(), std::move(removed)});
  return subscription;
}

void DeviceRegistry::Unsubscribe(const Subscription* key) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(subscribers_, [key](const Subscriber& one) { return one.key == key; });
}

void DeviceRegistry::Watch() {
  for (;;) {
    epoll_event ready = {};
    epoll_wait(epoll_.get(), &ready, 1, -1);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stop_) return;
    LookLocked();
  }
}

void DeviceRegistry::LookLocked() {
  std::erase_if(devices_, [this](std::shared_ptr<RdmaDevice>& device) {
    if (!device->TakeRemoval()) return false;
    HAVEN_LOG(kWarning, "verbs") << "RDMA device " << device->name() << " is being removed";
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, device->fd(), nullptr);
    for (Subscriber& one : subscribers_) one.removed(*device);
    return true;
  });
}

}  // namespace haven
