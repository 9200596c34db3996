// SPDX-License-Identifier: Apache-2.0
//
// The primary's way to a backup: sessions, links and messages, without blocking.
#ifndef HAVEN_ENGINE_CONTROL_BACKUP_CONNECTOR_H_
#define HAVEN_ENGINE_CONTROL_BACKUP_CONNECTOR_H_

#include <cstdint>
#include <optional>
#include <variant>

#include "absl/status/status.h"
#include "engine/primary/epoch_shipper.h"
#include "engine/primary/primary_actions.h"
#include "engine/replica/control_message.h"
#include "transport/fabric.h"

namespace haven {

// A session was agreed on; its memory stays registered until DropSession or the next OpenSession.
struct SessionOpened {
  SessionMemory memory;
  bool base_accepted = false;
};
struct SessionFailed {
  SessionId session = kNoSession;
  absl::Status cause;
};
// A link is up. The links belong to the connector and live until CloseLink.
struct LinkOpened {
  LinkNumber number = kNoLink;
  Link* data = nullptr;
  Link* beats = nullptr;  // Of the heartbeats alone; may be used from another thread.
  Epoch committed = kNoEpoch;
  RingPosition next_position = 0;
  RingPosition ring_tail = 0;
};
struct LinkFailed {
  LinkNumber number = kNoLink;
  absl::Status cause;
};
// Something the backup said on the control channel.
struct MessageArrived {
  ControlMessage message;
};
// The control channel is gone. The link may still work: while it is up, Send() has the channel
// opened again.
struct ChannelLost {
  absl::Status cause;
};
using ConnectorEvent =
    std::variant<SessionOpened, SessionFailed, LinkOpened, LinkFailed, MessageArrived, ChannelLost>;

// One attempt at a time; a new one ends the one before, whose event does not come any more. The
// production one works in a thread of its own, the simulation's in simulated time. Used from the
// epoch thread.
class BackupConnector {
 public:
  virtual ~BackupConnector() = default;

  // Connects and agrees on a session. Yields SessionOpened or SessionFailed.
  virtual void OpenSession(SessionId session, const ReplicaBase& base) = 0;
  // Opens a link of the agreed session, connecting anew where needed. Yields LinkOpened or
  // LinkFailed.
  virtual void OpenLink(LinkNumber number) = 0;
  // Destroys the links. When it returns nobody uses them any more.
  virtual void CloseLink() = 0;
  // Ends the session on this side: connections closed, memory given back.
  virtual void DropSession() = 0;
  // Sends if there is a channel; a message that can not be sent is lost, which the protocol allows.
  // Without a channel while a link is up, another one is opened meanwhile: heartbeats on it are
  // what the backup hears first after a cut of the network that the link does not survive.
  virtual void Send(const ControlMessage& message) = 0;
  // The next event, if there is one. Never blocks.
  virtual std::optional<ConnectorEvent> Next() = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_BACKUP_CONNECTOR_H_
