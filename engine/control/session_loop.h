// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_SESSION_LOOP_H_
#define HAVEN_ENGINE_CONTROL_SESSION_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/control/backup_driver.h"
#include "engine/control/backup_status.h"
#include "engine/control/heartbeat_pump.h"
#include "engine/control/mailbox.h"
#include "engine/control/poll_set.h"
#include "engine/control/session_door.h"
#include "engine/control/session_setup.h"
#include "engine/control/status_publisher.h"
#include "engine/control/system_ids.h"
#include "engine/control/thread_arbiter_port.h"
#include "engine/control/transport_primary_connector.h"
#include "engine/membership/arbiter.h"

namespace haven {

struct SessionOptions {
  std::string node_id;
  SetupOptions setup;
  // protocol.owner is set; the detection time is the Hello's.
  BackupDriverOptions driver;
  // Where the primary reconnects. Empty: an address of the transport's choosing.
  std::string session_address;
  absl::Duration door_patience = absl::Seconds(1);
  absl::Duration step_timeout = absl::Seconds(1);
  absl::Duration link_timeout = absl::Seconds(4);
  absl::Duration arbiter_timeout = absl::Seconds(1);
  int64_t beat_ns = 0;  // Between one-sided heartbeats, as for HeartbeatPump::IntervalFor.
  int64_t spin_ns = 20 * kNsPerUs;  // After something has come, before the thread sleeps.
  // `protected` means a commit this young, or no older than kProtectedIntervals epochs or the
  // detection time of the Hello are long.
  int64_t protected_age_ns = 1 * kNsPerSecond;
  // A committed epoch waits so long for the applier, but not in a promotion: for benchmarks.
  int64_t apply_delay_ns = 0;
  // Where the status of this group goes. Null: nowhere.
  std::function<StatusPaths(const std::string& group)> paths;
};

// All of it outlives the loop.
struct SessionSeams {
  Transport* transport = nullptr;
  ReplicaFactory* factory = nullptr;
  std::shared_ptr<Arbiter> arbiter;
};

struct SessionResult {
  BackupEnd end = BackupEnd::kNotYet;  // kNotYet: Stop() ended it.
  std::optional<Register> value;       // The register as last seen; after kPromoted this copy's.
  std::string cause;
};

// The body of a backup's session process: one replica, from the connection on which its first Hello
// comes to its promotion or its end. One thread turns the protocol; appliers, links, connections,
// the arbiter's calls, heartbeats and the status have threads of their own.
class SessionLoop {
 public:
  // Takes the descriptor of a fresh connection (owned from here on). Errors of SetUpSession, and
  // ResourceExhausted: no thread or descriptor. The peer has been told.
  static absl::StatusOr<std::unique_ptr<SessionLoop>> Create(SessionOptions options,
                                                             SessionSeams seams, int connection);
  // A replica that was not promoted is destroyed.
  ~SessionLoop();

  // Turns until the replica was promoted or given up, or Stop() is called; once. The thread that
  // calls it is the session thread of all seams.
  SessionResult Run();

  const std::string& group() const { return setup_.terms.group; }
  const Hello& hello() const { return setup_.hello; }
  // Where the primary reconnects.
  std::string session_address() const { return door_->address(); }
  // Valid until the object goes; after a promotion they only hold the mappings of running guests.
  const std::vector<std::unique_ptr<ReplicaDomain>>& replicas() const { return setup_.replicas; }

  // Commands, from any other thread; see EngineLoop.

  // Asks for the promotion, whatever the primary does: the register decides. FailedPrecondition:
  // this replica can not be promoted now.
  absl::Status Promote(absl::Duration timeout);
  absl::StatusOr<StatusSnapshot> Snapshot(absl::Duration timeout);
  // Ends Run() as it is. FailedPrecondition: a promotion is under way, or this replica may be asked
  // to promote at any moment, because the register names it; `force` ends it all the same.
  absl::Status Stop(bool force, absl::Duration timeout);

 private:
  struct Command {
    enum class Kind : uint8_t { kPromote, kSnapshot, kStop };
    Kind kind = Kind::kSnapshot;
    bool force = false;
  };
  struct Reply {
    absl::Status status;
    std::optional<StatusSnapshot> snapshot;
  };

  SessionLoop(SessionOptions options, SessionSeams seams, SessionSetup setup);

  absl::Status Open();
  absl::Status OpenDriver();
  ReplicaParts Parts() const;
  int64_t ProtectedAgeNs() const;
  int64_t BeatNs() const;
  Reply Serve(const Command& command);
  absl::Status MayStop() const;
  bool Over() const;
  void Turn();
  void Vouch();
  void FollowLink();
  void Wait();

  const SessionOptions options_;
  const SessionSeams seams_;
  const Clock& clock_;
  SystemIds ids_;
  bool stop_ = false;

  // In the order in which they depend on each other: each uses only what stands above it.
  SessionSetup setup_;
  std::unique_ptr<Mailbox<Command, Reply>> mailbox_;
  std::unique_ptr<StatusPublisher> publisher_;
  std::unique_ptr<BackupStatus> status_;
  std::unique_ptr<HeartbeatPump> pump_;
  std::unique_ptr<SessionDoor> door_;
  std::unique_ptr<TransportPrimaryConnector> connector_;
  std::unique_ptr<ThreadArbiterPort> arbiter_;
  std::unique_ptr<BackupDriver> driver_;

  std::optional<PollSet> poll_;
  // As in EngineLoop.
  SessionId followed_session_ = kNoSession;
  LinkNumber followed_link_ = kNoLink;
  // Of the loop's own: it is watched until it is taken off, whatever has become of the link and
  // whatever other thread opens a descriptor meanwhile.
  UniqueFd followed_fd_;
  int64_t spin_until_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SESSION_LOOP_H_
