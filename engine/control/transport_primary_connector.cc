// SPDX-License-Identifier: Apache-2.0
//
// The channel to the primary: who may have it, and what is said on it. Links are in
// transport_primary_links.cc.
#include "engine/control/transport_primary_connector.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/message_io.h"
#include "engine/control/session_dialer.h"
#include "engine/replica/features.h"

namespace haven {

absl::StatusOr<std::unique_ptr<TransportPrimaryConnector>> TransportPrimaryConnector::Create(
    Transport& transport, PrimaryConnectorOptions options, SessionTerms terms,
    std::shared_ptr<BackupMemory> memory, FirstHello first, SessionDoor& door,
    HeartbeatPump& pump) {
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker, Worker::Start("haven-links"));
  HAVEN_RETURN_IF_ERROR(poll.Add(worker->fd()));
  HAVEN_RETURN_IF_ERROR(poll.Add(door.fd()));
  std::unique_ptr<TransportPrimaryConnector> connector(new TransportPrimaryConnector(
      transport, std::move(options), std::move(terms), std::move(memory), door, pump,
      std::move(poll), std::move(worker)));
  connector->candidates_.push_back({.session = first.session,
                                    .channel = std::move(first.channel),
                                    .seal_key = first.seal_key,
                                    .attached = true});
  return connector;
}

TransportPrimaryConnector::TransportPrimaryConnector(Transport& transport,
                                                     PrimaryConnectorOptions options,
                                                     SessionTerms terms,
                                                     std::shared_ptr<BackupMemory> memory,
                                                     SessionDoor& door, HeartbeatPump& pump,
                                                     PollSet poll, std::unique_ptr<Worker> worker)
    : transport_(transport),
      options_(std::move(options)),
      terms_(std::move(terms)),
      memory_(std::move(memory)),
      door_(door),
      pump_(pump),
      poll_(std::move(poll)),
      worker_(std::move(worker)) {}

TransportPrimaryConnector::~TransportPrimaryConnector() {
  CloseLinks();
  worker_.reset();
}

std::optional<SealKey> TransportPrimaryConnector::SealKeyOf(SessionId session) const {
  for (const Candidate& candidate : candidates_) {
    if (candidate.session == session) return candidate.seal_key;
  }
  return std::nullopt;
}

void TransportPrimaryConnector::Accept(const Welcome& welcome) {
  const auto asked = std::find_if(
      candidates_.begin(), candidates_.end(),
      [&welcome](const Candidate& candidate) { return candidate.session == welcome.session; });
  if (asked == candidates_.end()) return;
  Candidate candidate = std::move(*asked);
  candidates_.erase(asked);
  const bool submitted = worker_->Submit(
      [this, welcome, candidate = std::move(candidate)]() mutable -> Worker::Finish {
        absl::Status attached;
        if (!candidate.attached)
          attached = transport_.Attach(*memory_->endpoint, *candidate.channel);
        absl::StatusOr<std::string> journal = attached.ok()
                                                  ? memory_->endpoint->Offer(memory_->journal)
                                                  : absl::StatusOr<std::string>(attached);
        return [this, welcome = std::move(welcome), candidate = std::move(candidate),
                offered = std::move(journal)]() mutable {
          TakeAccepted(std::move(candidate), std::move(welcome), offered);
        };
      });
  if (!submitted) {
    HAVEN_LOG(kError, "control") << "group=" << terms_.group
                                 << " a session was accepted and could not be welcomed";
  }
}

void TransportPrimaryConnector::TakeAccepted(Candidate candidate, Welcome welcome,
                                             const absl::StatusOr<std::string>& journal) {
  if (!journal.ok()) {
    HAVEN_LOG(kError, "control") << "group=" << terms_.group
                                 << " a session could not be welcomed: " << journal.status();
    const ::haven::Refuse refuse = {RefuseCode::kInternal, std::string(journal.status().message())};
    SendMessage(*candidate.channel, refuse, kSendTimeout).IgnoreError();
    return;
  }
  session_ = welcome.session;
  newest_link_ = kNoLink;
  lanes_left_over_ = false;
  welcome.journal_region = ToBlob(*journal);
  welcome.session_address = door_.address();
  SetChannel(std::move(candidate.channel));
  Send(welcome);
}

// The newest Hello: an older one that still waits is answered after it.
void TransportPrimaryConnector::Refuse(const ::haven::Refuse& refuse) {
  if (candidates_.empty()) return;
  SendMessage(*candidates_.back().channel, refuse, kSendTimeout).IgnoreError();
  candidates_.pop_back();
}

void TransportPrimaryConnector::TakeArrivals() {
  for (size_t taken = 0; taken < SessionDoor::kMaxWaiting; ++taken) {
    std::optional<Arrival> arrival = door_.Next();
    if (!arrival.has_value()) return;
    if (const auto* hello = std::get_if<Hello>(&arrival->first)) {
      TakeHello(std::move(arrival->channel), *hello);
    } else if (const auto* request = std::get_if<LinkRequest>(&arrival->first)) {
      TakeLinkRequest(std::move(arrival->channel), *request);
    } else if (const auto* ready = std::get_if<LinkReady>(&arrival->first)) {
      TakeLinkReady(std::move(arrival->channel), *ready);
    }
  }
}

void TransportPrimaryConnector::TakeHello(std::unique_ptr<ControlChannel> channel,
                                          const Hello& hello) {
  std::optional<::haven::Refuse> refuse = CheckAgainstTerms(hello, options_.offer, terms_);
  if (!refuse.has_value() && candidates_.size() == kMaxCandidates) {
    refuse =
        ::haven::Refuse{RefuseCode::kNotReady, "other sessions are being agreed on: try again"};
  }
  std::optional<SealKey> seal_key;
  if (!refuse.has_value() && IsSealed(terms_.agreement.features)) {
    const absl::StatusOr<ChannelKey> key = channel->ExportKey(hello.session);
    if (key.ok()) seal_key = *key;
    if (!key.ok()) {
      refuse = ::haven::Refuse{RefuseCode::kFeature, std::string(key.status().message())};
    }
  }
  if (refuse.has_value()) {
    HAVEN_LOG(kWarning, "control") << "group=" << terms_.group << " refuses " << channel->Describe()
                                   << " of node " << hello.node_id << ": " << refuse->message;
    SendMessage(*channel, *refuse, kSendTimeout).IgnoreError();
    return;
  }
  candidates_.push_back(
      {.session = hello.session, .channel = std::move(channel), .seal_key = seal_key});
  events_.push_back(HelloArrived{hello});
}

void TransportPrimaryConnector::SetChannel(std::unique_ptr<ControlChannel> channel) {
  CloseChannel();
  channel_ = std::move(channel);
  // What came behind the first words may be buffered.
  if (readable_.has_value()) readable_ = true;
  const absl::Status watched = poll_.Add(channel_->fd());
  if (!watched.ok()) LoseChannel(watched);
}

void TransportPrimaryConnector::CloseChannel() {
  if (channel_ == nullptr) return;
  poll_.Remove(channel_->fd());
  channel_.reset();
}

void TransportPrimaryConnector::LoseChannel(const absl::Status& cause) {
  HAVEN_LOG(kWarning, "control") << "group=" << terms_.group
                                 << " control channel to the primary lost: " << cause.message();
  channel_error_ = cause;
  CloseChannel();
}

void TransportPrimaryConnector::Send(const ControlMessage& message) {
  if (channel_ == nullptr) return;
  const absl::Status sent = SendMessage(*channel_, message, kSendTimeout);
  if (!sent.ok()) LoseChannel(sent);
}

std::optional<PrimaryEvent> TransportPrimaryConnector::Next() {
  worker_->RunFinished();
  if (events_.empty()) TakeArrivals();
  if (events_.empty()) Receive();
  if (events_.empty()) return std::nullopt;
  PrimaryEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void TransportPrimaryConnector::Receive() {
  for (int taken = 0; channel_ != nullptr && events_.empty() && readable_.value_or(true); ++taken) {
    absl::StatusOr<std::optional<ControlMessage>> message = ReceiveMessage(*channel_);
    if (!message.ok()) return LoseChannel(message.status());
    // If there is more, it is buffered, or the descriptor is readable still.
    if (readable_.has_value()) readable_ = channel_->buffered();
    if (!message->has_value()) return;
    if (taken == kMaxMessagesPerCall) {
      return LoseChannel(absl::DataLossError(
          absl::StrCat(channel_->Describe(), " floods the channel with messages without use")));
    }
    TakeMessage(**std::move(message));
  }
}

void TransportPrimaryConnector::TakeMessage(ControlMessage message) {
  if (const auto* request = std::get_if<LinkRequest>(&message)) {
    return TakeLinkRequest(nullptr, *request);
  }
  // Said by the lanes themselves, which are accepted when both are there.
  if (std::holds_alternative<LinkReady>(message)) return;
  const bool for_caller = std::holds_alternative<HeartbeatMessage>(message) ||
                          std::holds_alternative<ExtentRequest>(message) ||
                          std::holds_alternative<Handover>(message) ||
                          std::holds_alternative<Drop>(message);
  if (!for_caller) {
    return LoseChannel(absl::DataLossError(
        absl::StrCat(channel_->Describe(), " sends ", ControlMessageName(message),
                     ", which is not for a backup in a session")));
  }
  events_.push_back(PrimarySaid{std::move(message)});
}

}  // namespace haven
