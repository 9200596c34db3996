// SPDX-License-Identifier: Apache-2.0
//
// The links of a backup's session process: asked for, offered, accepted, cut off.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/control/message_io.h"
#include "engine/control/session_dialer.h"
#include "engine/control/transport_primary_connector.h"
#include "engine/replica/peer_block.h"

namespace haven {

namespace {

// How soon a wait for lanes notices that nobody wants them any more.
constexpr absl::Duration kAcceptSlice = absl::Milliseconds(20);

absl::StatusOr<LinkOffer> PrepareLanes(Endpoint& endpoint, LinkOffer offer) {
  offer.lanes.clear();
  for (size_t i = 0; i < kLinkLanes; ++i) {
    const absl::StatusOr<std::string> lane = endpoint.PrepareLink();
    if (!lane.ok()) return lane.status();
    offer.lanes.push_back(ToBlob(*lane));
  }
  return offer;
}

}  // namespace

TransportPrimaryConnector::Lanes TransportPrimaryConnector::AcceptLanes(
    std::shared_ptr<BackupMemory> memory, absl::Duration timeout, const Cancel& cancel) {
  Lanes lanes;
  lanes.memory = std::move(memory);
  const TimeLimit limit(timeout);
  while (lanes.links.size() < kLinkLanes) {
    if (cancel.is_set()) {
      lanes.status = absl::CancelledError("the link was given up");
      return lanes;
    }
    absl::StatusOr<std::unique_ptr<Link>> link =
        lanes.memory->endpoint->AcceptLink(limit.Step(kAcceptSlice));
    if (link.ok()) {
      lanes.links.push_back(*std::move(link));
    } else if (!absl::IsDeadlineExceeded(link.status()) || limit.Passed()) {
      lanes.status = link.status();
      return lanes;
    }
  }
  return lanes;
}

void TransportPrimaryConnector::Supersede() {
  ++attempt_;
  opening_link_ = kNoLink;
  if (cancel_ != nullptr) cancel_->Set();
  cancel_.reset();
}

void TransportPrimaryConnector::FailLink(const absl::Status& cause) {
  const LinkNumber number = std::exchange(opening_link_, kNoLink);
  if (number != kNoLink) events_.push_back(LinkUnmade{number, cause});
}

// Whether `asker` means another session than the running one; then it is told so.
bool TransportPrimaryConnector::RefuseOtherSession(ControlChannel& asker, SessionId session) {
  if (session == session_) return false;
  const ::haven::Refuse refuse = {
      RefuseCode::kNotReady,
      absl::StrCat("this process serves group ", terms_.group, " in session ", absl::Hex(session_),
                   ", not in ", absl::Hex(session))};
  SendMessage(asker, refuse, kSendTimeout).IgnoreError();
  return true;
}

// `channel`: a new connection, whose first message this is; null: the channel there is.
void TransportPrimaryConnector::TakeLinkRequest(std::unique_ptr<ControlChannel> channel,
                                                const LinkRequest& request) {
  if (RefuseOtherSession(channel != nullptr ? *channel : *channel_, request.session)) return;
  if (channel == nullptr && lanes_left_over_) {
    return LoseChannel(absl::FailedPreconditionError(
        absl::StrCat(channel_->Describe(), " asks for link ", request.link,
                     " where lanes of the one before are left over")));
  }
  Supersede();
  newest_link_ = request.link;
  const LinkAsked asked = {request.session, request.link};
  const bool submitted = worker_->Submit([this, asked, blob = FromBlob(request.peer_region),
                                          fresh = std::move(channel)]() mutable -> Worker::Finish {
    absl::Status attached;
    if (fresh != nullptr) attached = transport_.Attach(*memory_->endpoint, *fresh);
    absl::StatusOr<RemoteRegion> peer_block =
        attached.ok() ? memory_->endpoint->Import(blob, options_.step_timeout)
                      : absl::StatusOr<RemoteRegion>(attached);
    return [this, asked, attached, imported = std::move(peer_block),
            from = std::move(fresh)]() mutable {
      TakeAsked(std::move(from), asked, attached, imported);
    };
  });
  if (!submitted) {
    HAVEN_LOG(kWarning, "control")
        << "group=" << terms_.group << " too many links asked for: one more was not looked at";
  }
}

void TransportPrimaryConnector::TakeAsked(std::unique_ptr<ControlChannel> channel,
                                          const LinkAsked& asked, const absl::Status& attached,
                                          const absl::StatusOr<RemoteRegion>& peer_block) {
  if (channel != nullptr) {
    if (!attached.ok()) {
      HAVEN_LOG(kWarning, "control") << "group=" << terms_.group << " refuses a link to "
                                     << channel->Describe() << ": " << attached;
      const ::haven::Refuse refuse = {RefuseCode::kAuth, std::string(attached.message())};
      SendMessage(*channel, refuse, kSendTimeout).IgnoreError();
      return;
    }
    SetChannel(std::move(channel));
    lanes_left_over_ = false;
  }
  absl::Status sound = peer_block.status();
  if (sound.ok() && peer_block->bytes < kPeerBlockBytes) {
    sound = absl::InvalidArgumentError(
        absl::StrCat("a peer block of ", peer_block->bytes, " bytes; it has ", kPeerBlockBytes));
  }
  if (!sound.ok()) {
    HAVEN_LOG(kWarning, "control")
        << "group=" << terms_.group << " refuses link " << asked.number << ": " << sound;
    return Send(::haven::Refuse{RefuseCode::kMemory, std::string(sound.message())});
  }
  if (asked.session != session_) return;
  asked_ = Asked{asked.number, *peer_block};
  events_.push_back(asked);
}

// The primary has lost the channel and not the link.
void TransportPrimaryConnector::TakeLinkReady(std::unique_ptr<ControlChannel> channel,
                                              const LinkReady& ready) {
  if (RefuseOtherSession(*channel, ready.session)) return;
  if (ready.link != newest_link_) {
    // As a rule said too late: the primary has asked for another link since, by another connection.
    const ::haven::Refuse refuse = {
        RefuseCode::kNotReady, absl::StrCat("link ", ready.link, " is not the newest one of group ",
                                            terms_.group, ", ", newest_link_)};
    SendMessage(*channel, refuse, kSendTimeout).IgnoreError();
    return;
  }
  const bool submitted =
      worker_->Submit([this, ready, fresh = std::move(channel)]() mutable -> Worker::Finish {
        const absl::Status attached = transport_.Attach(*memory_->endpoint, *fresh);
        return [this, ready, attached, from = std::move(fresh)]() mutable {
          TakeAgain(std::move(from), ready, attached);
        };
      });
  if (!submitted) {
    HAVEN_LOG(kWarning, "control")
        << "group=" << terms_.group << " too much is under way: a new channel was not looked at";
  }
}

void TransportPrimaryConnector::TakeAgain(std::unique_ptr<ControlChannel> channel,
                                          const LinkReady& ready, const absl::Status& attached) {
  if (!attached.ok()) {
    HAVEN_LOG(kWarning, "control") << "group=" << terms_.group << " refuses the new channel "
                                   << channel->Describe() << ": " << attached;
    return;
  }
  if (ready.session != session_ || ready.link != newest_link_) return;
  SetChannel(std::move(channel));
  lanes_left_over_ = false;
}

void TransportPrimaryConnector::OfferLink(LinkOffer offer) {
  CloseLinks();
  opening_link_ = offer.link;
  if (asked_.number != offer.link) {
    return FailLink(absl::FailedPreconditionError("nobody has asked for this link"));
  }
  absl::StatusOr<std::shared_ptr<Cancel>> cancel = Cancel::Create();
  if (!cancel.ok()) return FailLink(cancel.status());
  cancel_ = *std::move(cancel);
  lanes_left_over_ = true;
  const bool submitted =
      worker_->Submit([this, attempt = attempt_, offer = std::move(offer)]() -> Worker::Finish {
        return [this, attempt, prepared = PrepareLanes(*memory_->endpoint, offer)] {
          TakePrepared(attempt, prepared);
        };
      });
  if (!submitted) FailLink(absl::UnavailableError("too many links wait to be opened"));
}

void TransportPrimaryConnector::TakePrepared(uint64_t attempt,
                                             const absl::StatusOr<LinkOffer>& offer) {
  if (attempt != attempt_) return;
  if (!offer.ok()) {
    Send(::haven::Refuse{RefuseCode::kInternal, std::string(offer.status().message())});
    return FailLink(offer.status());
  }
  Send(*offer);
  if (channel_ == nullptr) return FailLink(absl::UnavailableError("the control channel was lost"));
  const bool submitted = worker_->Submit(
      [this, attempt, memory = memory_, cancel = cancel_]() mutable -> Worker::Finish {
        Lanes accepted = AcceptLanes(std::move(memory), options_.link_timeout, *cancel);
        return [this, attempt, lanes = std::move(accepted)]() mutable {
          TakeLanes(attempt, std::move(lanes));
        };
      });
  if (!submitted) FailLink(absl::UnavailableError("too many links wait to be opened"));
}

void TransportPrimaryConnector::TakeLanes(uint64_t attempt, Lanes lanes) {
  const bool whole = lanes.links.size() == kLinkLanes;
  if (attempt != attempt_ || !whole) {
    // The primary may have connected: what could prove its end is kept.
    if (!lanes.links.empty()) Keep(std::move(lanes.links.back()));
    if (attempt == attempt_) FailLink(lanes.status);
    return;
  }
  lanes_left_over_ = false;
  opening_link_ = kNoLink;
  kept_.reset();
  data_ = std::move(lanes.links[0]);
  beats_ = std::move(lanes.links[1]);
  events_.push_back(LinkMade{.number = asked_.number,
                             .data = data_.get(),
                             .beats = beats_.get(),
                             .peer_block = asked_.peer_block});
}

void TransportPrimaryConnector::Keep(std::unique_ptr<Link> link) {
  link->Retire();
  kept_ = std::move(link);
}

void TransportPrimaryConnector::CloseLinks() {
  Supersede();
  pump_.ClearLane();
  if (beats_ != nullptr) Keep(std::move(beats_));
  data_.reset();
  std::erase_if(events_, [](const PrimaryEvent& event) {
    return std::holds_alternative<LinkMade>(event) || std::holds_alternative<LinkUnmade>(event);
  });
}

absl::Status TransportPrimaryConnector::Revoke() {
  Supersede();
  pump_.ClearLane();
  // Lanes that are being accepted at this moment are cut off as well.
  worker_->WaitIdle();
  worker_->RunFinished();
  absl::Status status;
  if (data_ != nullptr) status.Update(data_->Revoke());
  if (beats_ != nullptr) status.Update(beats_->Revoke());
  if (kept_ != nullptr) status.Update(kept_->Revoke());
  return status;
}

}  // namespace haven
