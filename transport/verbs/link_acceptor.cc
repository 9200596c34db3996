// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/link_acceptor.h"

#include <poll.h>
#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "transport/verbs/cm_connect.h"

namespace haven {
namespace {

absl::StatusOr<LinkToken> MakeToken() {
  LinkToken token;
  // So few bytes are never delivered in part, nor interrupted by a signal.
  if (getrandom(token.data(), token.size(), GRND_NONBLOCK) != static_cast<ssize_t>(token.size())) {
    return absl::ErrnoToStatus(errno, "getrandom");
  }
  return token;
}

void Reject(UniqueCmId id, JoinRefusal refusal) {
  const auto data = EncodeJoinRefusal(refusal);
  if (rdma_reject(id.get(), data.data(), static_cast<uint8_t>(data.size())) != 0) {
    // The peer has gone already, or learns it from the identifier's end.
    HAVEN_LOG(kDebug, "verbs") << CmError("rdma_reject");
  }
}

absl::Status CutOffError() {
  return absl::FailedPreconditionError("the session's links were revoked; no more are accepted");
}

}  // namespace

absl::StatusOr<std::unique_ptr<LinkAcceptor>> LinkAcceptor::Listen(
    const std::vector<std::unique_ptr<Rail>>& rails, const QueuePairOptions& options) {
  HAVEN_ASSIGN_OR_RETURN(CmChannel channel, CmChannel::Open());
  std::unique_ptr<LinkAcceptor> acceptor(new LinkAcceptor(rails, options, std::move(channel)));
  for (const std::unique_ptr<Rail>& rail : rails) {
    HAVEN_RETURN_IF_ERROR(acceptor->ListenOn(*rail));
  }
  return acceptor;
}

absl::Status LinkAcceptor::ListenOn(const Rail& rail) {
  HAVEN_ASSIGN_OR_RETURN(UniqueCmId id, channel_.MakeId());
  InetAddress local = rail.local().WithPort(0);
  if (rdma_bind_addr(id.get(), local.mutable_sockaddr()) != 0) {
    return CmError(absl::StrCat("bind to ", rail.Describe()));
  }
  if (rdma_listen(id.get(), kBacklog) != 0) {
    return CmError(absl::StrCat("listen on ", rail.Describe()));
  }
  listeners_.push_back(std::move(id));
  return absl::OkStatus();
}

absl::StatusOr<VerbsLinkBlob> LinkAcceptor::Prepare() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (cut_off_) return CutOffError();
  if (prepared_.size() == kMaxPrepared) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the peer has connected to none of the last ", kMaxPrepared, " links"));
  }
  VerbsLinkBlob blob;
  Prepared link;
  const auto rails = static_cast<uint32_t>(rails_.size());
  for (uint32_t i = 0; i < rails; ++i) {
    const uint32_t rail = (first_rail_ + i) % rails;
    link.used[rail] = listeners_[rail] == nullptr;
    if (link.used[rail]) continue;
    const uint16_t port = ntohs(rdma_get_src_port(listeners_[rail].get()));
    HAVEN_ASSIGN_OR_RETURN(link.tokens[rail], MakeToken());
    blob.ways.push_back({.rail = rail,
                         .address = rails_[rail]->local().WithPort(port),
                         .token = link.tokens[rail]});
  }
  if (blob.ways.empty()) {
    return absl::UnavailableError("every RDMA device of this session was removed from this host");
  }
  first_rail_ = (first_rail_ + 1) % rails;
  prepared_.push_back(std::move(link));
  return blob;
}

absl::StatusOr<LinkAcceptor::Accepted> LinkAcceptor::Accept(const NetDeadline& deadline) {
  for (;;) {
    std::vector<pollfd> waiting;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (cut_off_) return CutOffError();
      if (prepared_.empty()) {
        return absl::FailedPreconditionError("AcceptLink without a PrepareLink before");
      }
      HAVEN_RETURN_IF_ERROR(TurnLocked());
      Prepared& front = prepared_.front();
      if (front.established) {
        Accepted accepted = {
            .pair = std::move(front.pair), .rail = front.rail, .peer_rail = front.peer_rail};
        prepared_.pop_front();
        return accepted;
      }
      if (!front.failure.ok()) {
        if (front.pair != nullptr) HAVEN_RETURN_IF_ERROR(front.pair->Destroy());
        front.pair.reset();
        const absl::Status failure = std::exchange(front.failure, absl::OkStatus());
        // The peer may still come by the other rail.
        const auto used = std::count(front.used.begin(), front.used.end(), true);
        if (static_cast<size_t>(used) == rails_.size()) {
          prepared_.pop_front();
          return failure;
        }
        HAVEN_LOG(kWarning, "verbs") << "waiting for the other rail: " << failure;
      }
      waiting.push_back({.fd = channel_.fd(), .events = POLLIN, .revents = 0});
      for (const Prepared& link : prepared_) {
        if (link.pair == nullptr || link.established) continue;
        waiting.push_back({.fd = link.pair->channel().fd(), .events = POLLIN, .revents = 0});
      }
    }
    if (deadline.Passed()) {
      return absl::DeadlineExceededError("the peer has not connected to the link yet");
    }
    if (poll(waiting.data(), waiting.size(), deadline.RemainingMs()) < 0 && errno != EINTR) {
      return absl::ErrnoToStatus(errno, "poll");
    }
  }
}

// Handles what has arrived, without waiting.
absl::Status LinkAcceptor::TurnLocked() {
  for (int i = 0; i < kMaxEventsPerTurn; ++i) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<CmEvent> event, channel_.Next());
    if (!event.has_value()) break;
    // That a device is being removed comes by CloseRail().
    if (event->type == RDMA_CM_EVENT_CONNECT_REQUEST) TakeRequestLocked(*event);
  }
  for (Prepared& link : prepared_) {
    if (link.pair != nullptr && !link.established) FollowLocked(link);
  }
  return absl::OkStatus();
}

LinkAcceptor::Prepared* LinkAcceptor::FindPrepared(uint32_t rail, const LinkToken& token) {
  for (Prepared& link : prepared_) {
    if (!link.established && !link.used[rail] && SameToken(link.tokens[rail], token)) return &link;
  }
  return nullptr;
}

void LinkAcceptor::TakeRequestLocked(const CmEvent& event) {
  UniqueCmId id(event.id);
  const absl::StatusOr<Join> join = DecodeJoin(event.data());
  uint32_t rail = 0;
  while (rail < listeners_.size() && listeners_[rail].get() != event.listener) ++rail;
  Prepared* const link =
      join.ok() && rail < listeners_.size() ? FindPrepared(rail, join->token) : nullptr;
  if (link == nullptr) {
    Reject(std::move(id), JoinRefusal::kToken);
    // The 1st, 2nd, 4th, 8th ... so that a flood does not fill the log.
    if (std::has_single_bit(++turned_away_)) {
      HAVEN_LOG(kWarning, "verbs") << "a connection request without a good token is turned away ("
                                   << turned_away_ << " so far)";
    }
    return;
  }
  link->used[rail] = true;
  if (link->pair != nullptr) {
    link->failure = link->pair->Destroy();
    if (!link->failure.ok()) return Reject(std::move(id), JoinRefusal::kInternal);
    link->pair.reset();
  }
  link->rail = rail;
  link->peer_rail = join->rail;
  link->failure = AcceptRequestLocked(std::move(id), rail, *link);
}

absl::Status LinkAcceptor::AcceptRequestLocked(UniqueCmId id, uint32_t rail, Prepared& link) {
  const auto refuse = [&id](const absl::Status& cause) {
    Reject(std::move(id), JoinRefusal::kInternal);
    return cause;
  };
  absl::StatusOr<CmChannel> channel = CmChannel::Open();
  if (!channel.ok()) return refuse(channel.status());
  const absl::Status adopted = channel->Adopt(id.get());
  if (!adopted.ok()) return refuse(adopted);
  const absl::Status prepared = PrepareId(id.get(), options_);
  if (!prepared.ok()) return refuse(prepared);
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<CmQueuePair> pair,
                         CmQueuePair::Make(*rails_[rail], *std::move(channel), std::move(id)));
  rdma_conn_param parameters = MakeConnectParameters(rails_[rail]->limits(), options_, {});
  // From here on the peer may write, whether this side sees the connection stand or not.
  link.pair = std::move(pair);
  if (rdma_accept(link.pair->id(), &parameters) != 0) return CmError("rdma_accept");
  return link.pair->Settle(options_);
}

void LinkAcceptor::FollowLocked(Prepared& link) {
  while (link.failure.ok() && !link.established) {
    const absl::StatusOr<std::optional<CmEvent>> event = link.pair->channel().Next();
    if (event.ok() && !event->has_value()) return;
    if (!event.ok()) {
      link.failure = event.status();
    } else if ((*event)->type == RDMA_CM_EVENT_ESTABLISHED) {
      link.established = true;
    } else {
      link.failure = absl::UnavailableError(absl::StrCat(
          "the peer has taken the link and given it up: ", rdma_event_str((*event)->type),
          ", status ", (*event)->status));
    }
  }
}

void LinkAcceptor::CloseRail(uint32_t rail) {
  const std::lock_guard<std::mutex> lock(mutex_);
  listeners_[rail].reset();
  for (Prepared& link : prepared_) {
    link.used[rail] = true;
    if (link.pair == nullptr || link.rail != rail) continue;
    link.established = false;
    link.failure = absl::UnavailableError(
        absl::StrCat(rails_[rail]->Describe(), " was removed from this host"));
    const absl::Status destroyed = link.pair->Destroy();
    if (!destroyed.ok()) HAVEN_LOG(kError, "verbs") << destroyed;
  }
}

absl::Status LinkAcceptor::Drop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return DropLocked();
}

absl::Status LinkAcceptor::DropLocked() {
  first_rail_ = 0;
  absl::Status status;
  std::erase_if(prepared_, [&status](Prepared& link) {
    const absl::Status destroyed = link.pair == nullptr ? absl::OkStatus() : link.pair->Destroy();
    status.Update(destroyed);
    return destroyed.ok();
  });
  return status;
}

absl::Status LinkAcceptor::CutOff() {
  const std::lock_guard<std::mutex> lock(mutex_);
  cut_off_ = true;
  return DropLocked();
}

}  // namespace haven
