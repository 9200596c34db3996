// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/cm_connect.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// The acceptor's consumer has said no; anything else comes from the connection manager itself
// (InfiniBand specification 12.6.7.2).
constexpr int kRejectedByConsumer = 28;
constexpr int kRejectedNoListener = 8;

absl::Status EventError(const CmEvent& event, const std::string& where) {
  if (event.type == RDMA_CM_EVENT_REJECTED) {
    return RejectedError(event.status, event.data(), where);
  }
  return absl::UnavailableError(
      absl::StrCat(where, ": ", rdma_event_str(event.type),
                   event.status < 0 ? absl::StrCat(" (", std::strerror(-event.status), ")")
                                    : absl::StrCat(" (status ", event.status, ")"),
                   "; check that the two hosts' RDMA addresses reach each other"));
}

absl::StatusOr<CmEvent> AwaitStep(CmChannel& channel, rdma_cm_event_type wanted,
                                  const NetDeadline& deadline, const std::string& where) {
  absl::StatusOr<CmEvent> event =
      channel.Await(deadline, absl::StrCat(rdma_event_str(wanted), ", ", where));
  if (event.ok() && event->type != wanted) return EventError(*event, where);
  return event;
}

}  // namespace

std::array<std::byte, kJoinRefusalBytes> EncodeJoinRefusal(JoinRefusal refusal) {
  std::array<std::byte, kJoinRefusalBytes> data;
  StoreLe32(data.data(), static_cast<uint32_t>(refusal));
  return data;
}

absl::Status RejectedError(int status, std::span<const std::byte> data, const std::string& where) {
  if (status == kRejectedByConsumer && data.size() >= kJoinRefusalBytes) {
    const auto refusal = static_cast<JoinRefusal>(LoadLe32(data.data()));
    if (refusal == JoinRefusal::kToken) {
      return absl::PermissionDeniedError(absl::StrCat(
          where, ": the link's token was used before, or the peer has not prepared this link"));
    }
    return absl::UnavailableError(
        absl::StrCat(where, ": the peer could not make its queue pair; see its log"));
  }
  if (status == kRejectedNoListener) {
    return absl::UnavailableError(
        absl::StrCat(where, ": nobody accepts there; has the session ended?"));
  }
  return absl::UnavailableError(absl::StrCat(where, ": rejected with status ", status));
}

rdma_conn_param MakeConnectParameters(const DeviceLimits& limits, const QueuePairOptions& options,
                                      std::span<const std::byte> data) {
  rdma_conn_param parameters = {};
  parameters.private_data = data.data();
  parameters.private_data_len = static_cast<uint8_t>(data.size());
  parameters.responder_resources = static_cast<uint8_t>(limits.read_depth);
  parameters.initiator_depth = static_cast<uint8_t>(limits.read_depth);
  parameters.retry_count = options.retry_count;
  parameters.rnr_retry_count = options.rnr_retry_count;
  return parameters;
}

absl::Status PrepareId(rdma_cm_id* id, const QueuePairOptions& options) {
  uint8_t ack_timeout = options.ack_timeout;
  if (rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout,
                      sizeof(ack_timeout)) == 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("this kernel does not let the acknowledgement timeout be set (",
                   std::strerror(errno), "); without it a dead peer is noticed too late"));
}

absl::StatusOr<std::unique_ptr<CmQueuePair>> ConnectQueuePair(const Rail& rail,
                                                              const InetAddress& acceptor,
                                                              const Join& join,
                                                              const QueuePairOptions& options,
                                                              const NetDeadline& deadline) {
  const std::string where =
      absl::StrCat("link from ", rail.Describe(), " to ", acceptor.ToString());
  HAVEN_ASSIGN_OR_RETURN(CmChannel channel, CmChannel::Open());
  HAVEN_ASSIGN_OR_RETURN(UniqueCmId id, channel.MakeId());
  InetAddress from = rail.local();
  InetAddress to = acceptor;
  if (rdma_resolve_addr(id.get(), from.mutable_sockaddr(), to.mutable_sockaddr(),
                        std::max(1, deadline.RemainingMs())) != 0) {
    return CmError(absl::StrCat(where, ": rdma_resolve_addr"));
  }
  HAVEN_RETURN_IF_ERROR(AwaitStep(channel, RDMA_CM_EVENT_ADDR_RESOLVED, deadline, where).status());
  HAVEN_RETURN_IF_ERROR(PrepareId(id.get(), options));
  if (rdma_resolve_route(id.get(), std::max(1, deadline.RemainingMs())) != 0) {
    return CmError(absl::StrCat(where, ": rdma_resolve_route"));
  }
  HAVEN_RETURN_IF_ERROR(AwaitStep(channel, RDMA_CM_EVENT_ROUTE_RESOLVED, deadline, where).status());
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<CmQueuePair> pair,
                         CmQueuePair::Make(rail, std::move(channel), std::move(id)));
  const auto data = EncodeJoin(join);
  rdma_conn_param parameters = MakeConnectParameters(rail.limits(), options, data);
  if (rdma_connect(pair->id(), &parameters) != 0) {
    return CmError(absl::StrCat(where, ": rdma_connect"));
  }
  HAVEN_RETURN_IF_ERROR(
      AwaitStep(pair->channel(), RDMA_CM_EVENT_ESTABLISHED, deadline, where).status());
  HAVEN_RETURN_IF_ERROR(pair->Settle(options));
  return pair;
}

}  // namespace haven
