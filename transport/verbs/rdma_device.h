// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_RDMA_DEVICE_H_
#define HAVEN_TRANSPORT_VERBS_RDMA_DEVICE_H_

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/tls/inet_address.h"
#include "transport/verbs/cm_channel.h"

namespace haven {

// A device that this process has open. The kernel can not remove a device before every process has
// let go of it: whoever has objects on it keeps a share of this one as long as they exist, and
// gives both up when the device is being removed. With the last share the device is closed.
class RdmaDevice {
 public:
  // Opens the device that owns an address; null if there is none. Errors of CmChannel::Open and of
  // librdmacm.
  static absl::StatusOr<std::unique_ptr<RdmaDevice>> Open(const InetAddress& local);
  ~RdmaDevice();
  RdmaDevice(const RdmaDevice&) = delete;
  RdmaDevice& operator=(const RdmaDevice&) = delete;

  ibv_context* context() const { return bound_->verbs; }
  // The port that owns the address.
  uint8_t port() const { return bound_->port_num; }
  std::string name() const { return ibv_get_device_name(context()->device); }

  // Readable when TakeRemoval() has something to look at.
  int fd() const { return events_.get(); }
  // True once the device is being removed or is broken for good. Logs what else it says of itself.
  // For one thread.
  bool TakeRemoval();

 private:
  RdmaDevice(CmChannel channel, UniqueCmId bound)
      : channel_(std::move(channel)), bound_(std::move(bound)) {}

  absl::Status WatchEvents();
  bool TakeConnectionEvents();
  bool TakeDeviceEvents();
  void LetGo();

  CmChannel channel_;
  // Keeps the context; it never listens.
  UniqueCmId bound_;
  UniqueFd events_;
  bool removed_ = false;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_RDMA_DEVICE_H_
