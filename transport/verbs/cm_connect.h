// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_CM_CONNECT_H_
#define HAVEN_TRANSPORT_VERBS_CM_CONNECT_H_

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/tls/deadline.h"
#include "transport/verbs/blob.h"
#include "transport/verbs/queue_pair.h"
#include "transport/verbs/rail.h"

namespace haven {

// Why an acceptor turns a connection request away, in the private data of its answer.
enum class JoinRefusal : uint32_t {
  kToken = 1,     // Wrong, used, or no token at all.
  kInternal = 2,  // The acceptor could not make its queue pair.
};
inline constexpr size_t kJoinRefusalBytes = 4;
std::array<std::byte, kJoinRefusalBytes> EncodeJoinRefusal(JoinRefusal refusal);

// What a REJECTED event means: PermissionDenied for JoinRefusal::kToken, else Unavailable. `data`
// is the peer's and may be anything; `where` names the attempt.
absl::Status RejectedError(int status, std::span<const std::byte> data, const std::string& where);

// Parameters of rdma_connect(3) and rdma_accept(3). `data` outlives the result.
rdma_conn_param MakeConnectParameters(const DeviceLimits& limits, const QueuePairOptions& options,
                                      std::span<const std::byte> data);

// Sets what must be set before a connection is made.
absl::Status PrepareId(rdma_cm_id* id, const QueuePairOptions& options);

// Connects a queue pair on `rail` to an acceptor. DeadlineExceeded: it does not answer;
// Unavailable: it can not be reached, or nobody accepts there; PermissionDenied: it does not take
// the token; otherwise the errors of CmQueuePair::Make.
absl::StatusOr<std::unique_ptr<CmQueuePair>> ConnectQueuePair(const Rail& rail,
                                                              const InetAddress& acceptor,
                                                              const Join& join,
                                                              const QueuePairOptions& options,
                                                              const NetDeadline& deadline);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_CM_CONNECT_H_
