// SPDX-License-Identifier: Apache-2.0
//
// The backup's way to its primary: sessions, links and messages, without blocking.
#ifndef HAVEN_ENGINE_CONTROL_PRIMARY_CONNECTOR_H_
#define HAVEN_ENGINE_CONTROL_PRIMARY_CONNECTOR_H_

#include <optional>
#include <variant>

#include "absl/status/status.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/control_message.h"
#include "transport/fabric.h"

namespace haven {

// Another engine incarnation asks for a session on the replica that is here.
struct HelloArrived {
  Hello hello;
};
// The primary asks for a link; peer_block is its region, ready to be written.
struct LinkAsked {
  SessionId session = kNoSession;
  LinkNumber number = kNoLink;
};
// The link that was offered is up. The links belong to the connector and live until CloseLinks.
struct LinkMade {
  LinkNumber number = kNoLink;
  Link* data = nullptr;
  Link* beats = nullptr;  // Of the heartbeats alone; may be used from another thread.
  RemoteRegion peer_block;
};
struct LinkUnmade {
  LinkNumber number = kNoLink;
  absl::Status cause;
};
struct PrimarySaid {
  ControlMessage message;
};
using PrimaryEvent = std::variant<HelloArrived, LinkAsked, LinkMade, LinkUnmade, PrimarySaid>;

// Used from the session's thread. Never blocks but in Revoke().
class PrimaryConnector {
 public:
  virtual ~PrimaryConnector() = default;

  // The key for chunks of a session whose HelloArrived has come and which is not answered yet, if
  // sealing was agreed on.
  virtual std::optional<SealKey> SealKeyOf(SessionId session) const = 0;

  // Answers the Hello that came last.
  virtual void Accept(const Welcome& welcome) = 0;
  virtual void Refuse(const ::haven::Refuse& refuse) = 0;

  // Destroys all older links, then offers one; the lanes are filled in here. Yields LinkMade or
  // LinkUnmade.
  virtual void OfferLink(LinkOffer offer) = 0;
  // Destroys the links of this side. When it returns nobody uses them any more.
  virtual void CloseLinks() = 0;
  // Cuts the old writer off on every rail (Link::Revoke). Not OK: no proof; do not go on.
  virtual absl::Status Revoke() = 0;
  // Sends if there is a channel; a message that can not be sent is lost, which the protocol allows.
  virtual void Send(const ControlMessage& message) = 0;
  virtual std::optional<PrimaryEvent> Next() = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_PRIMARY_CONNECTOR_H_
