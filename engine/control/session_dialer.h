// SPDX-License-Identifier: Apache-2.0
//
// The steps by which a primary reaches a backup: they block, and run in a Worker.
#ifndef HAVEN_ENGINE_CONTROL_SESSION_DIALER_H_
#define HAVEN_ENGINE_CONTROL_SESSION_DIALER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/control/cancel.h"
#include "engine/primary/epoch_shipper.h"
#include "engine/primary/primary_actions.h"
#include "engine/replica/control_message.h"
#include "transport/endpoint.h"

namespace haven {

struct DialOptions {
  std::string backup_address;
  Hello hello;                 // As BuildHello makes it; session and base are filled in.
  uint64_t staging_bytes = 0;  // A multiple of hello.slot_bytes is used.
  // A session as a whole: the backup builds its copy before it answers.
  absl::Duration session_timeout = absl::Seconds(72);
  absl::Duration open_timeout = absl::Seconds(4);  // The way to a link as a whole.
  absl::Duration step_timeout = absl::Seconds(1);  // One connection, one lane.
};

// The primary's side of one session: its memory and where the backup's process is found again. Used
// by one thread at a time.
struct PrimarySession {
  std::string address;
  std::unique_ptr<Endpoint> endpoint;
  SessionMemory memory;
};

// A session that was agreed on.
struct DialedSession {
  std::shared_ptr<PrimarySession> session;
  std::unique_ptr<ControlChannel> channel;
  bool base_accepted = false;
};

struct DialResult {
  absl::StatusOr<DialedSession> dialed = absl::UnknownError("not dialed");
  // The older session's memory, if it was not used and is of use still.
  std::shared_ptr<PrimarySession> parked;
};

// Agrees on a session. With `parked` its process is asked first: it has the replica that the base
// names, and it keeps other processes from serving the group. Only if it is gone, silent or unfit,
// options.backup_address is asked. Memory is registered before the backup is asked for anything,
// and a session that comes to nothing after its Welcome is dropped there. Errors of Dial:
//   Unavailable, DeadlineExceeded  nobody there, no answer, or a refusal that may pass
//   (RefuseStatus); FailedPrecondition             refused for good; ResourceExhausted this host
//   has too little memory; InvalidArgument, DataLoss      the backup breaks the protocol;
//   Cancelled.
DialResult DialSession(Transport& transport, const DialOptions& options, SessionId session,
                       const ReplicaBase& base, std::shared_ptr<PrimarySession> parked,
                       const Cancel& cancel);

// What is needed to ask for a link.
struct LinkWay {
  std::unique_ptr<ControlChannel> channel;  // Null: the one there is goes on.
  Blob peer_region;
};

// Prepares the request for a link; with `connect` by way of a new connection to the session's
// process. NotFound: that process is gone, and its replica with it; else errors as above.
absl::StatusOr<LinkWay> FindLinkWay(Transport& transport, const DialOptions& options,
                                    PrimarySession& session, bool connect, const Cancel& cancel);

// Both lanes of a link. The session outlives the links: members go in reverse order.
struct LinkLanes {
  std::shared_ptr<PrimarySession> session;
  std::unique_ptr<Link> data;
  std::unique_ptr<Link> beats;
};

// Lanes of one link: epochs, and heartbeats.
inline constexpr size_t kLinkLanes = 2;

// Connects the lanes offered. Errors of Endpoint::ConnectLink; InvalidArgument: not kLinkLanes
// lanes.
absl::StatusOr<LinkLanes> ConnectLanes(const DialOptions& options,
                                       std::shared_ptr<PrimarySession> session,
                                       const LinkOffer& offer, const Cancel& cancel);

// What endpoints call a blob, and what messages do.
Blob ToBlob(absl::string_view bytes);
std::string FromBlob(const Blob& blob);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SESSION_DIALER_H_
