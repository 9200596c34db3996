// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_RAIL_H_
#define HAVEN_TRANSPORT_VERBS_RAIL_H_

#include <infiniband/verbs.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/tls/inet_address.h"
#include "transport/verbs/device_limits.h"
#include "transport/verbs/device_registry.h"

namespace haven {

// One path of a session: the port of an RDMA device that owns a local address. Rails on one device
// share a protection domain, which is the session's own. Thread-safe.
class Rail {
 public:
  // By the address. NotFound: no RDMA device owns it, with the addresses that devices own.
  // Otherwise the errors of DeviceRegistry::Open and LimitsOf. `others` are the session's other
  // rails.
  static absl::StatusOr<std::unique_ptr<Rail>> Open(
      DeviceRegistry& registry, const InetAddress& local,
      const std::vector<std::unique_ptr<Rail>>& others);

  const InetAddress& local() const { return local_; }
  const DeviceLimits& limits() const { return limits_; }

  // The session's protection domain on the device; the device stays open as long as somebody has
  // it. Null once the rail was closed.
  std::shared_ptr<ibv_pd> pd() const;
  // The same, or Unavailable, which says that the device was removed.
  absl::StatusOr<std::shared_ptr<ibv_pd>> OpenPd() const;
  bool IsOn(const RdmaDevice& device) const;
  // The device is being removed: nothing new begins on this rail.
  void Close();

  // "rxe0 port 1 at 10.9.0.2, MTU 4096".
  std::string Describe() const;

 private:
  Rail(const InetAddress& local, std::shared_ptr<RdmaDevice> device)
      : local_(local), device_(std::move(device)) {}

  absl::Status Set(uint8_t port, const std::vector<std::unique_ptr<Rail>>& others);

  const InetAddress local_;
  DeviceFacts facts_;
  DeviceLimits limits_;

  mutable std::mutex mutex_;
  std::shared_ptr<RdmaDevice> device_;
  std::shared_ptr<ibv_pd> pd_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_RAIL_H_
