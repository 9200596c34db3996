// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_dialer.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/control/beat_lane.h"
#include "engine/control/message_io.h"
#include "engine/replica/features.h"
#include "engine/replica/peer_block.h"

namespace haven {

namespace {

absl::Status Cancelled() { return absl::CancelledError("the attempt was given up"); }

absl::Status SessionGone(const absl::Status& cause) {
  return absl::NotFoundError(
      absl::StrCat("the backup's process of this session is gone: ", cause.message()));
}

// Scratch for the data path and the heartbeat, staging, the codec's image, peer block.
absl::Status RegisterMemory(const DialOptions& options, PrimarySession* session) {
  const uint64_t slot = options.hello.slot_bytes;
  SessionMemory& memory = session->memory;
  HAVEN_ASSIGN_OR_RETURN(
      memory.staging,
      session->endpoint->Register(options.staging_bytes / slot * slot, RegionAccess::kLocal));
  const FeatureOffer& offer = options.hello.offer;
  if (((offer.required | offer.optional) & kCodecFeatures) != 0) {
    HAVEN_ASSIGN_OR_RETURN(memory.image, session->endpoint->Register(memory.staging.bytes.size(),
                                                                     RegionAccess::kLocal));
  }
  HAVEN_ASSIGN_OR_RETURN(memory.scratch, session->endpoint->Register(PrimaryBeatLane::kScratchBytes,
                                                                     RegionAccess::kLocal));
  HAVEN_ASSIGN_OR_RETURN(memory.peer_block,
                         session->endpoint->Register(kPeerBlockBytes, RegionAccess::kRemoteWrite));
  memory.max_write_bytes = session->endpoint->max_write_bytes();
  memory.domain_count = static_cast<uint16_t>(options.hello.domains.size());
  return absl::OkStatus();
}

// What a decoded Welcome must keep beyond its own rules.
absl::Status CheckWelcome(const Hello& hello, const Welcome& welcome) {
  const auto wrong = [&welcome](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("the Welcome of backup ", welcome.node_id, " ", what));
  };
  const FeatureAgreement& agreed = welcome.agreement;
  const uint64_t spoken = hello.offer.required | hello.offer.optional;
  if (welcome.session != hello.session) return wrong("is for another session");
  if (agreed.version < hello.offer.version_min || agreed.version > hello.offer.version_max) {
    return wrong(absl::StrCat("says format version ", agreed.version, ", which was not offered"));
  }
  if ((agreed.features & ~spoken) != 0 || (hello.offer.required & ~agreed.features) != 0) {
    return wrong(absl::StrCat("agrees on features ", absl::Hex(agreed.features),
                              ", which is not what was offered"));
  }
  if (welcome.geometry.slot_bytes != hello.slot_bytes) {
    return wrong(absl::StrCat("has slots of ", welcome.geometry.slot_bytes, " bytes instead of ",
                              hello.slot_bytes));
  }
  if (welcome.base_accepted && welcome.base_epoch != hello.base_epoch) {
    return wrong(absl::StrCat("accepts base epoch ", welcome.base_epoch, ", offered was ",
                              hello.base_epoch));
  }
  return absl::OkStatus();
}

// One attempt to agree on a session.
class Dialer {
 public:
  Dialer(Transport& transport, const DialOptions& options, Hello hello, const Cancel& cancel)
      : transport_(transport), options_(options), hello_(std::move(hello)), cancel_(cancel) {}

  // Connects and asks. `session` is a parked one, or null for a new one, which is then made; null
  // afterwards if its memory is of no use on that address.
  absl::StatusOr<DialedSession> Ask(const std::string& address, const TimeLimit& limit,
                                    std::shared_ptr<PrimarySession>& session);

  // The process that was asked last lives and wants to be asked again.
  bool asked_to_wait() const { return asked_to_wait_; }

 private:
  absl::Status Join(ControlChannel& channel, std::shared_ptr<PrimarySession>& session);
  absl::StatusOr<Welcome> Greet(ControlChannel& channel, const TimeLimit& limit);
  absl::Status Settle(const Welcome& welcome, const TimeLimit& limit, PrimarySession* session);

  Transport& transport_;
  const DialOptions& options_;
  const Hello hello_;
  const Cancel& cancel_;
  bool asked_to_wait_ = false;
};

absl::StatusOr<DialedSession> Dialer::Ask(const std::string& address, const TimeLimit& limit,
                                          std::shared_ptr<PrimarySession>& session) {
  if (cancel_.is_set()) return Cancelled();
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ControlChannel> channel,
                         transport_.Connect(address, limit.Step(options_.step_timeout)));
  HAVEN_RETURN_IF_ERROR(Join(*channel, session));
  if (cancel_.is_set()) return Cancelled();
  HAVEN_ASSIGN_OR_RETURN(const Welcome welcome, Greet(*channel, limit));
  absl::Status settled = Settle(welcome, limit, session.get());
  if (settled.ok() && IsSealed(welcome.agreement.features)) {
    const absl::StatusOr<ChannelKey> key = channel->ExportKey(hello_.session);
    if (key.ok()) session->memory.seal_key = *key;
    settled = key.status();
  }
  if (settled.ok()) return DialedSession{session, std::move(channel), welcome.base_accepted};
  const Drop drop = {hello_.session, DropReason::kInternal, std::string(settled.message())};
  SendMessage(*channel, drop, options_.step_timeout).IgnoreError();
  return settled;
}

absl::Status Dialer::Join(ControlChannel& channel, std::shared_ptr<PrimarySession>& session) {
  if (session != nullptr) {
    const absl::Status attached = transport_.Attach(*session->endpoint, channel);
    if (!attached.ok()) session.reset();
    return attached;
  }
  auto fresh = std::make_shared<PrimarySession>();
  HAVEN_ASSIGN_OR_RETURN(fresh->endpoint, transport_.MakeEndpoint(channel));
  HAVEN_RETURN_IF_ERROR(RegisterMemory(options_, fresh.get()));
  session = std::move(fresh);
  return absl::OkStatus();
}

absl::StatusOr<Welcome> Dialer::Greet(ControlChannel& channel, const TimeLimit& limit) {
  HAVEN_RETURN_IF_ERROR(SendMessage(channel, hello_, limit.Step(options_.step_timeout)));
  HAVEN_ASSIGN_OR_RETURN(ControlMessage answer, WaitForMessage(channel, limit, cancel_));
  if (const auto* refuse = std::get_if<Refuse>(&answer)) {
    asked_to_wait_ = refuse->code == RefuseCode::kNotReady;
    return RefuseStatus(*refuse);
  }
  auto* welcome = std::get_if<Welcome>(&answer);
  if (welcome != nullptr) return std::move(*welcome);
  return absl::DataLossError(
      absl::StrCat(channel.Describe(), " answers Hello with ", ControlMessageName(answer)));
}

// After a Welcome: either the session comes about, or the backup is told that it does not.
absl::Status Dialer::Settle(const Welcome& welcome, const TimeLimit& limit,
                            PrimarySession* session) {
  HAVEN_RETURN_IF_ERROR(CheckWelcome(hello_, welcome));
  HAVEN_ASSIGN_OR_RETURN(session->memory.journal,
                         session->endpoint->Import(FromBlob(welcome.journal_region),
                                                   limit.Step(options_.step_timeout)));
  if (session->memory.journal.bytes < welcome.geometry.total_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("the backup's journal has ",
                                                   session->memory.journal.bytes, " bytes, ",
                                                   welcome.geometry.total_bytes(), " are needed"));
  }
  if (cancel_.is_set()) return Cancelled();
  session->memory.session = hello_.session;
  session->memory.geometry = welcome.geometry;
  session->memory.features = welcome.agreement.features;
  session->address = welcome.session_address;
  return absl::OkStatus();
}

}  // namespace

Blob ToBlob(absl::string_view bytes) {
  const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
  return Blob(first, first + bytes.size());
}

std::string FromBlob(const Blob& blob) {
  return std::string(reinterpret_cast<const char*>(blob.data()), blob.size());
}

DialResult DialSession(Transport& transport, const DialOptions& options, SessionId session,
                       const ReplicaBase& base, std::shared_ptr<PrimarySession> parked,
                       const Cancel& cancel) {
  Hello hello = options.hello;
  hello.session = session;
  hello.base_session = base.epoch == kNoEpoch ? kNoSession : base.session;
  hello.base_epoch = base.epoch;
  Dialer dialer(transport, options, std::move(hello), cancel);
  const TimeLimit limit(options.session_timeout);
  DialResult result;
  if (parked != nullptr) {
    // It has its copy already: what takes it longer than a link would is not worth waiting for.
    const TimeLimit first(options.open_timeout);
    result.dialed = dialer.Ask(std::string(parked->address), first, parked);
    if (result.dialed.ok()) return result;
    if (dialer.asked_to_wait() || cancel.is_set()) {
      result.parked = std::move(parked);
      return result;
    }
    parked.reset();
  }
  std::shared_ptr<PrimarySession> fresh;
  result.dialed = dialer.Ask(options.backup_address, limit, fresh);
  return result;
}

absl::StatusOr<LinkWay> FindLinkWay(Transport& transport, const DialOptions& options,
                                    PrimarySession& session, bool connect, const Cancel& cancel) {
  LinkWay way;
  if (cancel.is_set()) return Cancelled();
  if (connect) {
    absl::StatusOr<std::unique_ptr<ControlChannel>> channel =
        transport.Connect(session.address, options.step_timeout);
    if (absl::IsUnavailable(channel.status())) return SessionGone(channel.status());
    HAVEN_RETURN_IF_ERROR(channel.status());
    way.channel = *std::move(channel);
    const absl::Status attached = transport.Attach(*session.endpoint, *way.channel);
    if (absl::IsFailedPrecondition(attached)) return SessionGone(attached);
    HAVEN_RETURN_IF_ERROR(attached);
  }
  HAVEN_ASSIGN_OR_RETURN(const std::string blob,
                         session.endpoint->Offer(session.memory.peer_block));
  way.peer_region = ToBlob(blob);
  return way;
}

absl::StatusOr<LinkLanes> ConnectLanes(const DialOptions& options,
                                       std::shared_ptr<PrimarySession> session,
                                       const LinkOffer& offer, const Cancel& cancel) {
  if (offer.lanes.size() != kLinkLanes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the backup offers a link of ", offer.lanes.size(), " lanes instead of ", kLinkLanes));
  }
  LinkLanes lanes;
  lanes.session = std::move(session);
  Endpoint& endpoint = *lanes.session->endpoint;
  HAVEN_ASSIGN_OR_RETURN(lanes.data,
                         endpoint.ConnectLink(FromBlob(offer.lanes[0]), options.step_timeout));
  if (cancel.is_set()) return Cancelled();
  HAVEN_ASSIGN_OR_RETURN(lanes.beats,
                         endpoint.ConnectLink(FromBlob(offer.lanes[1]), options.step_timeout));
  return lanes;
}

}  // namespace haven
