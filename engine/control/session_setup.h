// SPDX-License-Identifier: Apache-2.0
//
// From an accepted connection to a replica that is ready for its first link (DESIGN.md section 5).
#ifndef HAVEN_ENGINE_CONTROL_SESSION_SETUP_H_
#define HAVEN_ENGINE_CONTROL_SESSION_SETUP_H_

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/control/replica_factory.h"
#include "engine/control/session_terms.h"
#include "engine/control/transport_primary_connector.h"
#include "engine/replica/control_message.h"
#include "transport/endpoint.h"

namespace haven {

struct SetupOptions {
  FeatureOffer offer;
  JournalOptions journal;
  absl::Duration hello_timeout = absl::Seconds(2);  // From the connection to its Hello.
  // May refuse what is sound by itself: a group that is served by another process here, or that
  // runs here. Null: nothing is refused.
  std::function<std::optional<Refuse>(const Hello&)> admit;
};

// Everything that a Hello was answered with, in the order in which it must not go.
struct SessionSetup {
  std::unique_ptr<ControlChannel> channel;
  Hello hello;
  SessionTerms terms;
  std::optional<SealKey> seal_key;  // If sealing was agreed on.
  std::vector<std::unique_ptr<ReplicaDomain>> replicas;
  std::shared_ptr<BackupMemory> memory;
};

// Takes the descriptor of a fresh connection (owned from here on), hears its Hello, agrees on the
// terms, registers the memory and builds the replicas. Blocks. Whatever is wrong, the peer is told
// by a Refuse that says so, and the status returned says the same:
//   DeadlineExceeded, Unavailable, DataLoss, PermissionDenied  no Hello came of it;
//   FailedPrecondition                                         the Hello is refused;
//   ResourceExhausted                                          too little memory.
absl::StatusOr<SessionSetup> SetUpSession(Transport& transport, const SetupOptions& options,
                                          ReplicaFactory& factory, int connection);

// Tells the peer that it is refused and why; returns `cause`.
absl::Status RefusePeer(ControlChannel& channel, RefuseCode code, const absl::Status& cause);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SESSION_SETUP_H_
