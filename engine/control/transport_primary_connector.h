// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_TRANSPORT_PRIMARY_CONNECTOR_H_
#define HAVEN_ENGINE_CONTROL_TRANSPORT_PRIMARY_CONNECTOR_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/control/cancel.h"
#include "engine/control/heartbeat_pump.h"
#include "engine/control/poll_set.h"
#include "engine/control/primary_connector.h"
#include "engine/control/session_door.h"
#include "engine/control/session_terms.h"
#include "engine/control/worker.h"
#include "transport/endpoint.h"

namespace haven {

// The backup's side of a session: the endpoint with its regions. Used by one thread at a time.
struct BackupMemory {
  std::unique_ptr<Endpoint> endpoint;
  LocalRegion journal;
  LocalRegion scratch;
};

// The channel on which the first Hello of a process came, and the session it asks for.
struct FirstHello {
  std::unique_ptr<ControlChannel> channel;
  SessionId session = kNoSession;
  std::optional<SealKey> seal_key;  // If sealing was agreed on.
};

struct PrimaryConnectorOptions {
  FeatureOffer offer;
  absl::Duration step_timeout = absl::Seconds(1);  // One call to the endpoint that may block.
  absl::Duration link_timeout = absl::Seconds(4);  // From the offer of a link to both lanes.
};

// The production connector of a backup's session process. What blocks happens in a worker and in
// the door's threads; the owner's thread waits in Revoke() alone.
//
// There is one channel to the primary. A connection to the session's address takes its place only
// when its first message was checked: a LinkRequest names the running session, a LinkReady its
// newest link, a Hello fits the terms and is then accepted. Others are refused and change nothing.
//
// On a transport whose links can not prove by their end alone that nothing lands any more, Revoke()
// needs a link: so when the links are closed the lane of the heartbeats is kept, unused, until the
// next link stands. From the first link on there is one at every moment.
class TransportPrimaryConnector final : public PrimaryConnector {
 public:
  // A channel that does not take a message into its buffer within this time counts as lost.
  static constexpr absl::Duration kSendTimeout = absl::Milliseconds(2);
  // Connections that have said Hello and wait for an answer.
  static constexpr size_t kMaxCandidates = 2;
  // Messages without use to the caller that one Next() takes; a channel with more counts as lost.
  static constexpr int kMaxMessagesPerCall = 64;

  // memory->endpoint was made on the channel of the first Hello, which is answered by Accept() like
  // all others, without a HelloArrived. `transport`, `door` and
  // `pump` outlive the object. ResourceExhausted: no thread or descriptor.
  static absl::StatusOr<std::unique_ptr<TransportPrimaryConnector>> Create(
      Transport& transport, PrimaryConnectorOptions options, SessionTerms terms,
      std::shared_ptr<BackupMemory> memory, FirstHello first, SessionDoor& door,
      HeartbeatPump& pump);
  // Waits for the worker's current step.
  ~TransportPrimaryConnector() override;

  std::optional<SealKey> SealKeyOf(SessionId session) const override;
  // `welcome.journal_region` and `session_address` are filled in here.
  void Accept(const Welcome& welcome) override;
  void Refuse(const ::haven::Refuse& refuse) override;
  void OfferLink(LinkOffer offer) override;
  void CloseLinks() override;
  absl::Status Revoke() override;
  void Send(const ControlMessage& message) override;
  std::optional<PrimaryEvent> Next() override;

  // Readable when Next() may have something.
  int fd() const { return poll_.fd(); }
  // Whether fd() was readable at the end of the owner's wait. If not, Next() leaves the channel's
  // descriptor alone until the owner's next word; an owner that says nothing has it read each time.
  void SetReadable(bool readable) {
    readable_ = readable || (channel_ != nullptr && channel_->buffered());
  }
  // The lane of the epochs while a link is up, else null.
  Link* data_link() const { return data_.get(); }
  // Why the control channel was lost last; OK: it was not.
  const absl::Status& channel_error() const { return channel_error_; }

 private:
  struct Candidate {
    SessionId session = kNoSession;
    std::unique_ptr<ControlChannel> channel;
    std::optional<SealKey> seal_key;
    bool attached = false;  // The endpoint was made on this very channel.
  };
  // A peer block that was imported for a link asked for.
  struct Asked {
    LinkNumber number = kNoLink;
    RemoteRegion peer_block;
  };
  // What a job that accepts lanes yields. The memory outlives the links: members go in reverse
  // order.
  struct Lanes {
    std::shared_ptr<BackupMemory> memory;
    std::vector<std::unique_ptr<Link>> links;
    absl::Status status;
  };

  TransportPrimaryConnector(Transport& transport, PrimaryConnectorOptions options,
                            SessionTerms terms, std::shared_ptr<BackupMemory> memory,
                            SessionDoor& door, HeartbeatPump& pump, PollSet poll,
                            std::unique_ptr<Worker> worker);

  // transport_primary_links.cc
  static Lanes AcceptLanes(std::shared_ptr<BackupMemory> memory, absl::Duration timeout,
                           const Cancel& cancel);
  void Supersede();
  void Keep(std::unique_ptr<Link> link);
  void FailLink(const absl::Status& cause);
  void TakeAsked(std::unique_ptr<ControlChannel> channel, const LinkAsked& asked,
                 const absl::Status& attached, const absl::StatusOr<RemoteRegion>& peer_block);
  bool RefuseOtherSession(ControlChannel& asker, SessionId session);
  void TakeLinkReady(std::unique_ptr<ControlChannel> channel, const LinkReady& ready);
  void TakeAgain(std::unique_ptr<ControlChannel> channel, const LinkReady& ready,
                 const absl::Status& attached);
  void TakePrepared(uint64_t attempt, const absl::StatusOr<LinkOffer>& offer);
  void TakeLanes(uint64_t attempt, Lanes lanes);

  void TakeArrivals();
  void TakeHello(std::unique_ptr<ControlChannel> channel, const Hello& hello);
  void TakeLinkRequest(std::unique_ptr<ControlChannel> channel, const LinkRequest& request);
  void TakeAccepted(Candidate candidate, Welcome welcome,
                    const absl::StatusOr<std::string>& journal);
  void SetChannel(std::unique_ptr<ControlChannel> channel);
  void CloseChannel();
  void LoseChannel(const absl::Status& cause);
  void Receive();
  void TakeMessage(ControlMessage message);

  Transport& transport_;
  const PrimaryConnectorOptions options_;
  const SessionTerms terms_;
  const std::shared_ptr<BackupMemory> memory_;
  SessionDoor& door_;
  HeartbeatPump& pump_;
  PollSet poll_;

  SessionId session_ = kNoSession;  // The last one that was welcomed.
  std::vector<Candidate> candidates_;
  std::unique_ptr<ControlChannel> channel_;
  std::optional<bool> readable_;
  absl::Status channel_error_;

  // The link that is being opened. A result that comes for another attempt is dropped.
  uint64_t attempt_ = 0;
  LinkNumber newest_link_ = kNoLink;  // Of those asked for in the session.
  LinkNumber opening_link_ = kNoLink;
  std::shared_ptr<Cancel> cancel_;
  Asked asked_;
  // Lanes were prepared on this channel that the primary did not take: they would be taken for the
  // next link's, so the primary has to come back on a new channel.
  bool lanes_left_over_ = false;

  std::unique_ptr<Link> data_;
  std::unique_ptr<Link> beats_;
  std::unique_ptr<Link> kept_;  // For Revoke(), see above.
  std::deque<PrimaryEvent> events_;

  // Last, so that it ends first.
  std::unique_ptr<Worker> worker_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_TRANSPORT_PRIMARY_CONNECTOR_H_
