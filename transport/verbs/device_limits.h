// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_DEVICE_LIMITS_H_
#define HAVEN_TRANSPORT_VERBS_DEVICE_LIMITS_H_

#include <infiniband/verbs.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// Requests in flight on one link. Deep enough for several doorbells of the engine's batches; a
// queue pair of the usual devices takes 16 Ki and more.
inline constexpr uint32_t kWantedSendDepth = 512;
// Receives posted for the peer's immediates.
inline constexpr uint32_t kWantedReceiveDepth = 1024;
// READs in flight: more than one is never useful to the engine.
inline constexpr uint32_t kWantedReadDepth = 4;
// A heartbeat or a commit record, sealed or not (kSealedRecordBytes), in the request itself spares
// the device a read of host memory.
inline constexpr uint32_t kWantedInlineBytes = 384;
// The wire is full long before this; larger requests only make the requests' own deadline coarse.
inline constexpr uint32_t kWantedWriteBytes = uint32_t{1} << 20;

// Below these a device is refused.
inline constexpr uint32_t kLeastQueueDepth = 64;
inline constexpr uint32_t kLeastWriteBytes = uint32_t{64} << 10;

// What one port of a device lets a link do.
struct DeviceLimits {
  uint32_t send_depth = 0;
  uint32_t receive_depth = 0;
  uint32_t completion_depth = 0;  // send_depth + receive_depth at least: it can not overrun.
  uint32_t read_depth = 0;
  uint32_t write_bytes = 0;
  uint32_t inline_bytes = 0;  // To ask for; the queue pair says what it got.
  uint32_t mtu_bytes = 0;
  uint64_t region_bytes = 0;
  uint32_t regions = 0;
};

// What the device says of itself, from ibv_query_device(3) and ibv_query_port(3).
struct DeviceFacts {
  std::string name;
  uint8_t port = 0;
  ibv_transport_type transport = IBV_TRANSPORT_UNKNOWN;
  ibv_device_attr device = {};
  ibv_port_attr attributes = {};
};

// Cuts what is wanted to what the device has. FailedPrecondition: it is of no use, the message says
// why (iWARP, no READ, too small queues or messages); Unavailable: the port is not up.
absl::StatusOr<DeviceLimits> LimitsOf(const DeviceFacts& facts);

// What to ask for after a device has refused `inline_bytes`, which is not 0: about half, down to a
// heartbeat's 64 bytes, then 0.
uint32_t LessInlineBytes(uint32_t inline_bytes);

// Asks the device. Besides the errors above: Unavailable, it does not answer.
absl::StatusOr<DeviceFacts> QueryDevice(ibv_context* context, uint8_t port);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_DEVICE_LIMITS_H_
