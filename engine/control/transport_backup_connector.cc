// SPDX-License-Identifier: Apache-2.0
#include "engine/control/transport_backup_connector.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/message_io.h"

namespace haven {

absl::StatusOr<std::unique_ptr<TransportBackupConnector>> TransportBackupConnector::Create(
    Transport& transport, DialOptions options, HeartbeatPump& pump) {
  if (options.hello.slot_bytes == 0 || options.staging_bytes < options.hello.slot_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("staging of ", options.staging_bytes,
                                                   " bytes holds no slot of ",
                                                   options.hello.slot_bytes));
  }
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker, Worker::Start("haven-dial"));
  HAVEN_RETURN_IF_ERROR(poll.Add(worker->fd()));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Worker> redialer, Worker::Start("haven-redial"));
  HAVEN_RETURN_IF_ERROR(poll.Add(redialer->fd()));
  return std::unique_ptr<TransportBackupConnector>(
      new TransportBackupConnector(transport, std::move(options), pump, std::move(poll),
                                   std::move(worker), std::move(redialer)));
}

TransportBackupConnector::TransportBackupConnector(Transport& transport, DialOptions options,
                                                   HeartbeatPump& pump, PollSet poll,
                                                   std::unique_ptr<Worker> worker,
                                                   std::unique_ptr<Worker> redialer)
    : transport_(transport),
      options_(std::move(options)),
      pump_(pump),
      poll_(std::move(poll)),
      worker_(std::move(worker)),
      redialer_(std::move(redialer)) {}

TransportBackupConnector::~TransportBackupConnector() {
  CloseLink();
  redialer_.reset();
  worker_.reset();
}

// Whatever is under way is of no interest any more.
void TransportBackupConnector::Supersede() {
  ++attempt_;
  opening_ = Opening::kNothing;
  if (cancel_ != nullptr) cancel_->Set();
  cancel_.reset();
}

// False: the attempt has failed already, and an event says so.
bool TransportBackupConnector::Begin(Opening opening) {
  Supersede();
  opening_ = opening;
  absl::StatusOr<std::shared_ptr<Cancel>> cancel = Cancel::Create();
  if (!cancel.ok()) {
    Fail(cancel.status());
    return false;
  }
  cancel_ = *std::move(cancel);
  return true;
}

void TransportBackupConnector::Submit(Worker::Job job) {
  if (worker_->Submit(std::move(job))) return;
  Fail(absl::UnavailableError("too many attempts to reach the backup are waiting for their end"));
}

// Ends the attempt that is under way.
void TransportBackupConnector::Fail(const absl::Status& cause) {
  const Opening opening = std::exchange(opening_, Opening::kNothing);
  if (opening == Opening::kNothing) return;
  if (opening == Opening::kChannel) {
    // Tried again by and by; if the process is gone, the link tells.
    HAVEN_LOG(kWarning, "control") << "group=" << options_.hello.group
                                   << " no new control channel to the backup: " << cause.message();
  } else if (opening == Opening::kSession) {
    events_.push_back(SessionFailed{opening_session_, cause});
  } else if (absl::IsNotFound(cause)) {
    events_.push_back(
        MessageArrived{Drop{opening_session_, DropReason::kReplica, std::string(cause.message())}});
  } else {
    events_.push_back(LinkFailed{opening_link_, cause});
  }
}

void TransportBackupConnector::OpenSession(SessionId session, const ReplicaBase& base) {
  DropSession();
  opening_session_ = session;
  if (!Begin(Opening::kSession)) return;
  Submit([this, attempt = attempt_, session, base, cancel = cancel_,
          parked = std::move(parked_)]() mutable -> Worker::Finish {
    DialResult result =
        DialSession(transport_, options_, session, base, std::move(parked), *cancel);
    return [this, attempt, dialed = std::move(result)]() mutable {
      TakeDialed(attempt, std::move(dialed));
    };
  });
}

void TransportBackupConnector::TakeDialed(uint64_t attempt, DialResult result) {
  if (parked_ == nullptr) parked_ = std::move(result.parked);
  if (attempt != attempt_) {
    if (!result.dialed.ok()) return;
    // Agreed on a moment too late.
    const Drop drop = {result.dialed->session->memory.session, DropReason::kTimeout,
                       "the primary has given this attempt up"};
    SendMessage(*result.dialed->channel, drop, kSendTimeout).IgnoreError();
    if (parked_ == nullptr) parked_ = std::move(result.dialed->session);
    return;
  }
  if (!result.dialed.ok()) return Fail(result.dialed.status());
  session_ = std::move(result.dialed->session);
  lanes_left_over_ = false;
  if (!SetChannel(std::move(result.dialed->channel))) return;
  opening_ = Opening::kNothing;
  events_.push_back(SessionOpened{session_->memory, result.dialed->base_accepted});
}

void TransportBackupConnector::OpenLink(LinkNumber number) {
  HAVEN_CHECK(session_ != nullptr) << "a link without a session";
  CloseLink();
  opening_session_ = session_->memory.session;
  opening_link_ = number;
  if (!Begin(Opening::kLinkWay)) return;
  const bool connect = channel_ == nullptr || lanes_left_over_;
  Submit([this, attempt = attempt_, cancel = cancel_, session = session_,
          connect]() mutable -> Worker::Finish {
    absl::StatusOr<LinkWay> found = FindLinkWay(transport_, options_, *session, connect, *cancel);
    return
        [this, attempt, way = std::move(found)]() mutable { TakeLinkWay(attempt, std::move(way)); };
  });
}

void TransportBackupConnector::TakeLinkWay(uint64_t attempt, absl::StatusOr<LinkWay> way) {
  // The endpoint goes by the new channel from now on, whoever asked for it.
  if (way.ok() && way->channel != nullptr) {
    if (session_ == nullptr) return;
    lanes_left_over_ = false;
    if (!SetChannel(std::move(way->channel))) return;
  }
  if (attempt != attempt_) return;
  if (!way.ok()) return Fail(way.status());
  if (channel_ == nullptr) return Fail(absl::UnavailableError("the control channel was lost"));
  opening_ = Opening::kAwaitOffer;
  lanes_left_over_ = true;
  Send(LinkRequest{opening_session_, opening_link_, std::move(way->peer_region)});
}

void TransportBackupConnector::TakeOffer(const LinkOffer& offer) {
  // Of an attempt that was given up.
  if (opening_ != Opening::kAwaitOffer || offer.session != opening_session_ ||
      offer.link != opening_link_) {
    return;
  }
  opening_ = Opening::kLanes;
  Submit([this, attempt = attempt_, cancel = cancel_, session = session_,
          offer]() mutable -> Worker::Finish {
    absl::StatusOr<LinkLanes> connected =
        ConnectLanes(options_, std::move(session), offer, *cancel);
    return [this, attempt, offer = std::move(offer), lanes = std::move(connected)]() mutable {
      TakeLanes(attempt, offer, std::move(lanes));
    };
  });
}

void TransportBackupConnector::TakeLanes(uint64_t attempt, const LinkOffer& offer,
                                         absl::StatusOr<LinkLanes> lanes) {
  if (attempt != attempt_) return;
  if (!lanes.ok()) return Fail(lanes.status());
  opening_ = Opening::kNothing;
  lanes_left_over_ = false;
  redial_rest_.End();
  lanes_ = *std::move(lanes);
  events_.push_back(LinkOpened{.number = offer.link,
                               .data = lanes_.data.get(),
                               .beats = lanes_.beats.get(),
                               .committed = offer.committed_epoch,
                               .next_position = offer.next_position,
                               .ring_tail = offer.ring_tail});
  Send(LinkReady{offer.session, offer.link});
}

void TransportBackupConnector::OpenChannel() {
  if (lanes_.data == nullptr || opening_ != Opening::kNothing) return;
  if (redial_rest_.Rests()) return;
  redial_rest_.Begin();
  if (!Begin(Opening::kChannel)) return;
  const bool submitted = redialer_->Submit([this, attempt = attempt_, cancel = cancel_,
                                            address = session_->address]() -> Worker::Finish {
    if (cancel->is_set()) return [] {};
    absl::StatusOr<std::unique_ptr<ControlChannel>> dialed =
        transport_.Connect(address, options_.step_timeout);
    return [this, attempt, channel = std::move(dialed)]() mutable {
      Attach(attempt, std::move(channel));
    };
  });
  if (!submitted) Fail(absl::UnavailableError("an older attempt has not ended yet"));
}

void TransportBackupConnector::Attach(uint64_t attempt,
                                      absl::StatusOr<std::unique_ptr<ControlChannel>> channel) {
  // Of no use to the next link, which asks on one of its own.
  if (attempt != attempt_) return;
  if (!channel.ok()) return Fail(channel.status());
  Submit(
      [this, attempt, session = session_, fresh = *std::move(channel)]() mutable -> Worker::Finish {
        const absl::Status attached = transport_.Attach(*session->endpoint, *fresh);
        return [this, attempt, attached, channel = std::move(fresh)]() mutable {
          TakeChannel(attempt, std::move(channel), attached);
        };
      });
}

void TransportBackupConnector::TakeChannel(uint64_t attempt,
                                           std::unique_ptr<ControlChannel> channel,
                                           const absl::Status& attached) {
  if (attempt != attempt_) return;
  if (!attached.ok()) return Fail(attached);
  if (!SetChannel(std::move(channel))) return;
  opening_ = Opening::kNothing;
  Send(LinkReady{session_->memory.session, opening_link_});
}

void TransportBackupConnector::CloseLink() {
  Supersede();
  pump_.ClearLane();
  lanes_.beats.reset();
  lanes_.data.reset();
  lanes_.session.reset();
  std::erase_if(events_, [](const ConnectorEvent& event) {
    return std::holds_alternative<LinkOpened>(event) || std::holds_alternative<LinkFailed>(event);
  });
}

void TransportBackupConnector::DropSession() {
  CloseLink();
  CloseChannel();
  events_.clear();
  if (session_ != nullptr) parked_ = std::move(session_);
  session_.reset();
}

bool TransportBackupConnector::SetChannel(std::unique_ptr<ControlChannel> channel) {
  CloseChannel();
  channel_ = std::move(channel);
  // What came behind the first words may be buffered.
  if (readable_.has_value()) readable_ = true;
  const absl::Status watched = poll_.Add(channel_->fd());
  if (watched.ok()) return true;
  channel_.reset();
  Fail(watched);
  return false;
}

void TransportBackupConnector::CloseChannel() {
  if (channel_ == nullptr) return;
  poll_.Remove(channel_->fd());
  channel_.reset();
}

void TransportBackupConnector::LoseChannel(const absl::Status& cause) {
  HAVEN_LOG(kWarning, "control") << "group=" << options_.hello.group
                                 << " control channel to the backup lost: " << cause.message();
  CloseChannel();
  events_.push_back(ChannelLost{cause});
  if (opening_ == Opening::kAwaitOffer) Fail(cause);
}

void TransportBackupConnector::Send(const ControlMessage& message) {
  if (channel_ == nullptr) return OpenChannel();
  const absl::Status sent = SendMessage(*channel_, message, kSendTimeout);
  if (!sent.ok()) LoseChannel(sent);
}

std::optional<ConnectorEvent> TransportBackupConnector::Next() {
  worker_->RunFinished();
  redialer_->RunFinished();
  if (events_.empty()) Receive();
  if (events_.empty()) return std::nullopt;
  ConnectorEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void TransportBackupConnector::Receive() {
  for (int taken = 0; channel_ != nullptr && events_.empty() && readable_.value_or(true); ++taken) {
    absl::StatusOr<std::optional<ControlMessage>> message = ReceiveMessage(*channel_);
    if (!message.ok()) return LoseChannel(message.status());
    // If there is more, it is buffered, or the descriptor is readable still.
    if (readable_.has_value()) readable_ = channel_->buffered();
    if (!message->has_value()) return;
    // A Refuse is no use of the channel.
    if (!std::holds_alternative<Refuse>(**message)) redial_rest_.End();
    if (taken == kMaxMessagesPerCall) {
      return LoseChannel(absl::DataLossError(
          absl::StrCat(channel_->Describe(), " floods the channel with messages without use")));
    }
    TakeMessage(**std::move(message));
  }
}

void TransportBackupConnector::TakeMessage(ControlMessage message) {
  if (const auto* offer = std::get_if<LinkOffer>(&message)) return TakeOffer(*offer);
  if (const auto* refuse = std::get_if<Refuse>(&message)) {
    if (opening_ == Opening::kAwaitOffer) Fail(RefuseStatus(*refuse));
    return;
  }
  const bool for_caller = std::holds_alternative<HeartbeatMessage>(message) ||
                          std::holds_alternative<ExtentGrant>(message) ||
                          std::holds_alternative<HandoverRefused>(message) ||
                          std::holds_alternative<Promoted>(message) ||
                          std::holds_alternative<Drop>(message);
  if (!for_caller) {
    return LoseChannel(absl::DataLossError(absl::StrCat(channel_->Describe(), " sends ",
                                                        ControlMessageName(message),
                                                        ", which is not for a primary")));
  }
  events_.push_back(MessageArrived{std::move(message)});
}

}  // namespace haven
