// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_RAIL_H_
#define HAVEN_TRANSPORT_VERBS_RAIL_H_

#include <infiniband/verbs.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/tls/inet_address.h"
#include "transport/verbs/cm_channel.h"
#include "transport/verbs/device_limits.h"

namespace haven {

// One path of a session: the port of an RDMA device that owns a local address. Rails on one device
// share a protection domain, which is the session's own.
class Rail {
 public:
  // By the address. NotFound: no RDMA device owns it, with the addresses that devices own.
  // Otherwise the errors of CmChannel::Open and LimitsOf. `others` are the session's other rails.
  static absl::StatusOr<std::unique_ptr<Rail>> Open(
      const InetAddress& local, const std::vector<std::unique_ptr<Rail>>& others);

  const InetAddress& local() const { return local_; }
  ibv_context* context() const { return bound_->verbs; }
  ibv_pd* pd() const { return pd_.get(); }
  const DeviceLimits& limits() const { return limits_; }
  const std::string& device() const { return facts_.name; }
  // "rxe0 port 1 at 10.9.0.2, MTU 4096".
  std::string Describe() const;

 private:
  Rail(const InetAddress& local, CmChannel channel, UniqueCmId bound)
      : local_(local), channel_(std::move(channel)), bound_(std::move(bound)) {}

  const InetAddress local_;
  CmChannel channel_;
  // Keeps the device open; it never listens.
  UniqueCmId bound_;
  std::shared_ptr<ibv_pd> pd_;
  DeviceFacts facts_;
  DeviceLimits limits_;
};

// An address of this host that RDMA device `device` owns, of the family of `like` if there is one.
// NotFound: no such device or it owns no address, with those that there are.
absl::StatusOr<InetAddress> AddressOfDevice(absl::string_view device, const InetAddress& like);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_RAIL_H_
