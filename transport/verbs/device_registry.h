// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_DEVICE_REGISTRY_H_
#define HAVEN_TRANSPORT_VERBS_DEVICE_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/base/thread.h"
#include "engine/control/wake_fd.h"
#include "transport/verbs/rdma_device.h"

namespace haven {

// The devices that a process has ever opened, watched by a thread as long as they are there: even
// one without a session must be let go of when it is removed. Thread-safe.
class DeviceRegistry {
 public:
  struct Port {
    std::shared_ptr<RdmaDevice> device;
    uint8_t number = 0;
  };
  using Removed = absl::AnyInvocable<void(const RdmaDevice& device)>;

  // As long as it exists, whoever has asked is told of each device that is being removed.
  class Subscription {
   public:
    explicit Subscription(DeviceRegistry& registry) : registry_(registry) {}
    // Waits for a call that is under way.
    ~Subscription() { registry_.Unsubscribe(this); }
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    DeviceRegistry& registry_;
  };

  DeviceRegistry() = default;
  // Nobody uses it or is subscribed any more.
  ~DeviceRegistry();
  DeviceRegistry(const DeviceRegistry&) = delete;
  DeviceRegistry& operator=(const DeviceRegistry&) = delete;

  // The port that owns an address; no device if none does. Errors of RdmaDevice::Open;
  // ResourceExhausted: no thread or descriptor.
  absl::StatusOr<Port> Open(const InetAddress& local);

  // `removed` is called in the registry's thread, soon after the removal has begun. It gives up the
  // caller's objects on the device, and does not call the registry.
  std::unique_ptr<Subscription> Subscribe(Removed removed);

 private:
  struct Subscriber {
    const Subscription* key = nullptr;
    Removed removed;
  };

  absl::Status StartLocked();
  absl::Status WatchLocked(int fd) const;
  void Unsubscribe(const Subscription* key);
  void Watch();
  void LookLocked();

  std::mutex mutex_;
  std::vector<std::shared_ptr<RdmaDevice>> devices_;
  std::vector<Subscriber> subscribers_;
  bool stop_ = false;

  UniqueFd epoll_;  // Of all devices, and of `wake_`.
  std::optional<WakeFd> wake_;
  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_DEVICE_REGISTRY_H_
