// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_TRANSPORT_BACKUP_CONNECTOR_H_
#define HAVEN_ENGINE_CONTROL_TRANSPORT_BACKUP_CONNECTOR_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/growing_rest.h"
#include "engine/control/backup_connector.h"
#include "engine/control/cancel.h"
#include "engine/control/heartbeat_pump.h"
#include "engine/control/poll_set.h"
#include "engine/control/session_dialer.h"
#include "engine/control/worker.h"
#include "transport/endpoint.h"

namespace haven {

// The production connector of the primary. What blocks (connecting, registering memory, the
// handshake, opening lanes) happens in a worker, each step with a deadline; the channel itself is
// read and written by the owner's thread, so that heartbeats on it go on while a link is being
// opened. The control channel and the endpoint of one session are used by two threads at once here,
// which a transport must allow: the endpoint's calls go beside the channel (transport/shm does, by
// its rendezvous).
//
// A session's memory outlives DropSession(): the next session uses it again if the backup's process
// still has the replica, so that protection is never refused for want of memory that was there. It
// is given back when another process serves the next session.
//
// The wait for the backup's LinkOffer ends with the caller's own deadline (CloseLink).
class TransportBackupConnector final : public BackupConnector {
 public:
  // A channel that does not take a message into its buffer within this time counts as lost.
  static constexpr absl::Duration kSendTimeout = absl::Milliseconds(2);
  // Messages without use to the caller that one Next() takes; a channel with more counts as lost.
  static constexpr int kMaxMessagesPerCall = 64;
  // Messages left out at most between two attempts to open a lost channel again.
  static constexpr uint32_t kMaxLeftOut = 63;

  // All that is passed in outlives the object. InvalidArgument: options do not fit together;
  // ResourceExhausted: no thread or descriptor.
  static absl::StatusOr<std::unique_ptr<TransportBackupConnector>> Create(Transport& transport,
                                                                          DialOptions options,
                                                                          HeartbeatPump& pump);
  // Waits for the workers' current steps, at most options.step_timeout each.
  ~TransportBackupConnector() override;

  void OpenSession(SessionId session, const ReplicaBase& base) override;
  void OpenLink(LinkNumber number) override;
  void CloseLink() override;
  void DropSession() override;
  void Send(const ControlMessage& message) override;
  std::optional<ConnectorEvent> Next() override;

  // Readable when Next() may have something.
  int fd() const { return poll_.fd(); }
  // Whether fd() was readable at the end of the owner's wait. If not, Next() leaves the channel's
  // descriptor alone until the owner's next word; an owner that says nothing has it read each time.
  void SetReadable(bool readable) {
    readable_ = readable || (channel_ != nullptr && channel_->buffered());
  }
  // The lane of the epochs while a link is up, else null.
  Link* data_link() const { return lanes_.data.get(); }
  bool has_channel() const { return channel_ != nullptr; }

 private:
  enum class Opening : uint8_t {
    kNothing,
    kSession,     // In the worker.
    kLinkWay,     // In the worker: connecting if needed, offering the peer block.
    kAwaitOffer,  // LinkRequest was sent.
    kLanes,       // In the worker: connecting the lanes.
    kChannel,     // Connecting again in the other worker, then attaching: the link goes on.
  };

  TransportBackupConnector(Transport& transport, DialOptions options, HeartbeatPump& pump,
                           PollSet poll, std::unique_ptr<Worker> worker,
                           std::unique_ptr<Worker> redialer);

  bool Begin(Opening opening);
  void Supersede();
  void Submit(Worker::Job job);
  void Fail(const absl::Status& cause);
  void TakeDialed(uint64_t attempt, DialResult result);
  void TakeLinkWay(uint64_t attempt, absl::StatusOr<LinkWay> way);
  void TakeOffer(const LinkOffer& offer);
  void TakeLanes(uint64_t attempt, const LinkOffer& offer, absl::StatusOr<LinkLanes> lanes);
  void OpenChannel();
  void Attach(uint64_t attempt, absl::StatusOr<std::unique_ptr<ControlChannel>> channel);
  void TakeChannel(uint64_t attempt, std::unique_ptr<ControlChannel> channel,
                   const absl::Status& attached);
  bool SetChannel(std::unique_ptr<ControlChannel> channel);
  void CloseChannel();
  void LoseChannel(const absl::Status& cause);
  void Receive();
  void TakeMessage(ControlMessage message);

  Transport& transport_;
  const DialOptions options_;
  HeartbeatPump& pump_;
  PollSet poll_;

  // The attempt that is under way. A result that comes for another one is dropped.
  uint64_t attempt_ = 0;
  Opening opening_ = Opening::kNothing;
  std::shared_ptr<Cancel> cancel_;
  SessionId opening_session_ = kNoSession;
  LinkNumber opening_link_ = kNoLink;  // Open, if lanes_ are there.
  // The backup has prepared lanes on this channel that nobody took: the next link needs a new one,
  // on which none are left over.
  bool lanes_left_over_ = false;

  std::shared_ptr<PrimarySession> parked_;
  std::shared_ptr<PrimarySession> session_;
  std::unique_ptr<ControlChannel> channel_;
  std::optional<bool> readable_;
  // A channel that is lost again before the backup says anything on it is opened more and more
  // seldom: counted in the messages for which there is none.
  GrowingRest redial_rest_{1, kMaxLeftOut};
  LinkLanes lanes_;
  std::deque<ConnectorEvent> events_;

  // Last, so that they end first.
  std::unique_ptr<Worker> worker_;
  // Connects for a channel that was lost alone: the next link must not wait for that.
  std::unique_ptr<Worker> redialer_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_TRANSPORT_BACKUP_CONNECTOR_H_
