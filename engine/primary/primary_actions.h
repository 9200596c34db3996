// SPDX-License-Identifier: Apache-2.0
//
// What the primary's state machine asks of its surroundings.
#ifndef HAVEN_ENGINE_PRIMARY_PRIMARY_ACTIONS_H_
#define HAVEN_ENGINE_PRIMARY_PRIMARY_ACTIONS_H_

#include <cstdint>

#include "engine/replica/control_message.h"
#include "engine/replica/identity.h"

namespace haven {

// What the new session starts from: a replica that an earlier session left behind.
struct ReplicaBase {
  SessionId session = kNoSession;
  Epoch epoch = kNoEpoch;
};

// One epoch to put on the wire.
struct SendOrder {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Epoch epoch = kNoEpoch;
  Epoch base_epoch = kNoEpoch;  // The last one that is known to be committed.
  EpochKind kind = EpochKind::kSync;
};

// Why an engine's work is over.
enum class PrimaryEnd : uint8_t {
  kNotYet = 0,
  kUnprotected = 1,  // As asked: output open, register `none`.
  kGuestEnded = 2,   // A guest shut down, rebooted or crashed; output open, register `none`.
  kDeposed = 3,  // The register has another owner: guests stopped or to be stopped, output held.
  kRefused = 4,  // The group belongs to somebody else; nothing was touched.
};

// Effects. The state machine calls these and goes on; each is answered by the event named with it,
// never from inside the call. Implemented by the production driver and by the simulation.
class PrimaryActions {
 public:
  virtual ~PrimaryActions() = default;

  // Guests. Answered by OnGuestSuspended(domain), if it ever stops.
  virtual void RequestSuspend(uint32_t domain) = 0;
  // Takes the request back or resumes. Answered by OnGuestRunning(domain).
  virtual void ResumeGuest(uint32_t domain) = 0;

  // Output of the whole group. Answered by OnOutput(op, status).
  virtual void HoldOutput() = 0;
  virtual void Barrier() = 0;
  virtual void ReleaseOutput() = 0;
  virtual void OpenOutput() = 0;
  // Builds the buffer anew after a failure, holding. Guests are stopped.
  virtual void RebuildOutput() = 0;

  // Fetches the dirty logs and copies pages (kCheckpoint: all of them, and state) into staging.
  // Answered by OnCaptured.
  virtual void Capture(EpochKind kind) = 0;
  // Encodes what was captured and sends it. Answered by OnAck, or OnLinkDown.
  virtual void Send(const SendOrder& order) = 0;
  // The captured set is safe on the backup.
  virtual void CommitDirty() = 0;
  // The captured set is not safe: it is dirty again.
  virtual void RestoreDirty() = 0;
  // The replica has nothing yet: every page is dirty.
  virtual void MarkAllDirty() = 0;

  // Connects to the backup and agrees on a session. Answered by OnSession.
  virtual void OpenSession(SessionId session, const ReplicaBase& base) = 0;
  // Opens a link of the session, every older one being destroyed. Answered by OnLinkUp or
  // OnLinkDown.
  virtual void OpenLink(SessionId session, LinkNumber link) = 0;
  // Destroys this side's end of the link. No event of it arrives afterwards.
  virtual void CloseLink() = 0;
  // Tells the backup, if it can be told, that the session is over and why, and forgets it.
  virtual void DropSession(SessionId session, DropReason reason, const char* cause) = 0;
  // Asks the backup to take over at `epoch`. Answered, if refused, by OnHandoverRefused.
  virtual void SendHandover(SessionId session, Epoch epoch) = 0;

  // Everything visible has changed: write the status and, if `cause` is not null, an event.
  virtual void Report(const char* cause) = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_PRIMARY_ACTIONS_H_
