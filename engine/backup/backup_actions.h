// SPDX-License-Identifier: Apache-2.0
//
// What the backup's state machine asks of its surroundings.
#ifndef HAVEN_ENGINE_BACKUP_BACKUP_ACTIONS_H_
#define HAVEN_ENGINE_BACKUP_BACKUP_ACTIONS_H_

#include <cstdint>

#include "engine/replica/identity.h"

namespace haven {

// Why a session process' work is over.
enum class BackupEnd : uint8_t {
  kNotYet = 0,
  kPromoted = 1,   // The copy runs here and owns the register: a guard takes over.
  kAbandoned = 2,  // The copy is destroyed.
};

// Effects. The state machine calls these and goes on; each is answered by the event named with it,
// never from inside the call.
class BackupActions {
 public:
  virtual ~BackupActions() = default;

  // Accepts the session asked for. With `base`: on the replica that is here.
  virtual void AcceptSession(SessionId session, bool base) = 0;
  // Refuses it: this process can not serve it now.
  virtual void RefuseSession(SessionId session, const char* cause) = 0;

  // Destroys every link of the session, then offers link `link`, telling what is committed.
  // Answered by OnLinkUp or OnLinkDown.
  virtual void OfferLink(SessionId session, LinkNumber link, Epoch committed) = 0;
  // Destroys the links. No byte of theirs lands afterwards, as far as this side can know.
  virtual void CloseLink() = 0;

  // Tells the primary that `epoch` is committed.
  virtual void Acknowledge(SessionId session, LinkNumber link, Epoch epoch) = 0;
  // Applies a verified epoch after all earlier ones. Answered by OnApplied.
  virtual void Apply(Epoch epoch) = 0;

  // Promotion, in this order. Cuts off the old writer on every rail. Answered by OnCutOff.
  virtual void CutOff() = 0;
  // Looks for one more whole epoch in the journal. Answered by OnFinalRead.
  virtual void ReadFinal() = 0;
  // Prepares every copy with its state, appliers joined. Answered by OnPrepared.
  virtual void Prepare() = 0;
  // Lets every copy run. Answered by OnRunning.
  virtual void Run() = 0;
  // Destroys every copy. Answered by OnAbandoned.
  virtual void Abandon() = 0;

  // Tells the primary, if it can be told.
  virtual void SendHandoverRefused(SessionId session) = 0;
  virtual void SendPromoted(SessionId session, Term term) = 0;
  virtual void SendDrop(SessionId session, const char* cause) = 0;

  // Everything visible has changed: write the status and, if `cause` is not null, an event.
  virtual void Report(const char* cause) = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_BACKUP_ACTIONS_H_
