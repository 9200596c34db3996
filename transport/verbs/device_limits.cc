// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device_limits.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/replica/control_block.h"

namespace haven {
namespace {

static_assert(kSealedRecordBytes <= kWantedInlineBytes);

// Device attributes are signed in the interface and never negative in truth.
uint32_t Count(int value) { return value < 0 ? 0 : static_cast<uint32_t>(value); }

uint32_t MtuBytes(ibv_mtu mtu) {
  return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? uint32_t{128} << mtu : 0;
}

absl::Status CheckFeatures(const DeviceFacts& facts) {
  const std::string where = absl::StrCat("RDMA device ", facts.name, " port ", facts.port, ": ");
  const auto refused = [&where](absl::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat(where, why));
  };
  if (facts.transport == IBV_TRANSPORT_IWARP) {
    return refused(
        "iWARP has no WRITE with immediate, which ends each group of chunks; use a "
        "RoCE or InfiniBand device, or soft-RoCE (rdma link add ... type rxe)");
  }
  if (facts.transport != IBV_TRANSPORT_IB) {
    return refused(absl::StrCat("transport type ", static_cast<int>(facts.transport),
                                " is neither InfiniBand nor RoCE"));
  }
  if (facts.attributes.state != IBV_PORT_ACTIVE) {
    return absl::UnavailableError(absl::StrCat(where, "the port is ",
                                               ibv_port_state_str(facts.attributes.state),
                                               "; bring its link up (rdma link show)"));
  }
  const ibv_device_attr& device = facts.device;
  const uint32_t depth = std::min(Count(device.max_qp_wr), Count(device.max_cqe) / 2);
  if (depth < kLeastQueueDepth) {
    return refused(
        absl::StrCat("its queues hold ", depth, " requests, ", kLeastQueueDepth, " are needed"));
  }
  if (device.max_sge < 1 || device.max_qp_rd_atom < 1 || device.max_qp_init_rd_atom < 1) {
    return refused("it can not READ on a reliable connection");
  }
  if (facts.attributes.max_msg_sz < kLeastWriteBytes) {
    return refused(absl::StrCat("its messages hold ", facts.attributes.max_msg_sz, " bytes, ",
                                kLeastWriteBytes, " are needed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeviceLimits> LimitsOf(const DeviceFacts& facts) {
  HAVEN_RETURN_IF_ERROR(CheckFeatures(facts));
  const ibv_device_attr& device = facts.device;
  DeviceLimits limits;
  const uint32_t depth = Count(device.max_qp_wr);
  const uint32_t completions = Count(device.max_cqe);
  limits.send_depth = std::min({kWantedSendDepth, depth, completions / 2});
  limits.receive_depth = std::min({kWantedReceiveDepth, depth, completions - limits.send_depth});
  limits.completion_depth = limits.send_depth + limits.receive_depth;
  limits.read_depth =
      std::min({kWantedReadDepth, Count(device.max_qp_rd_atom), Count(device.max_qp_init_rd_atom)});
  // Whole pages, so that parts of a chunk stay aligned.
  limits.write_bytes = std::min(kWantedWriteBytes, facts.attributes.max_msg_sz) & ~uint32_t{4095};
  limits.inline_bytes = kWantedInlineBytes;
  limits.mtu_bytes = MtuBytes(facts.attributes.active_mtu);
  limits.region_bytes = device.max_mr_size;
  limits.regions = Count(device.max_mr);
  return limits;
}

uint32_t LessInlineBytes(uint32_t inline_bytes) {
  // Whole heartbeats: half of a record is of no use inline.
  return static_cast<uint32_t>(inline_bytes / 2 / kHeartbeatBytes * kHeartbeatBytes);
}

absl::StatusOr<DeviceFacts> QueryDevice(ibv_context* context, uint8_t port) {
  DeviceFacts facts;
  facts.name = ibv_get_device_name(context->device);
  facts.port = port;
  facts.transport = context->device->transport_type;
  int error = ibv_query_device(context, &facts.device);
  if (error == 0) error = ibv_query_port(context, port, &facts.attributes);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("RDMA device ", facts.name, " port ", port,
                     " does not answer: ", absl::ErrnoToStatus(error, "query").message()));
  }
  return facts;
}

}  // namespace haven
