// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_endpoint.h"

#include <sys/socket.h>

#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "transport/shm/blob.h"
#include "transport/shm/socket_io.h"

namespace haven {
namespace {

// A packet of a few bytes waits only while the peer leaves hundreds of them unread.
constexpr absl::Duration kRendezvousSendTimeout = absl::Seconds(2);

absl::Status NoEndpointLeft(const ShmControlChannel& channel) {
  return absl::FailedPreconditionError(
      absl::StrCat(channel.Describe(), ": this channel serves an endpoint already"));
}

}  // namespace

ShmEndpoint::ShmEndpoint(std::shared_ptr<const PeerProcess> peer, UniqueFd rendezvous)
    : peer_(std::move(peer)), rendezvous_(MakeRendezvous(std::move(rendezvous))) {
  registered_.reserve(kMaxRegions);
}

absl::StatusOr<std::unique_ptr<ShmEndpoint>> ShmEndpoint::Make(ShmControlChannel& channel) {
  UniqueFd rendezvous = channel.TakeRendezvous();
  if (!rendezvous) return NoEndpointLeft(channel);
  return std::unique_ptr<ShmEndpoint>(new ShmEndpoint(channel.peer(), std::move(rendezvous)));
}

std::string ShmEndpoint::PeerName() const { return absl::StrCat("the peer, pid ", peer_->pid()); }

std::unique_ptr<Rendezvous> ShmEndpoint::MakeRendezvous(UniqueFd socket) const {
  return std::make_unique<Rendezvous>(std::move(socket), PeerName());
}

absl::Status ShmEndpoint::Attach(ShmControlChannel& channel) {
  // As long as the old pidfd's process lives, nobody else has its pid.
  if (channel.peer()->pid() != peer_->pid() || peer_->IsDead()) {
    return absl::FailedPreconditionError(
        absl::StrCat(channel.Describe(), ": another process than that of this session, pid ",
                     peer_->pid(), "; a session ends with its process, start a new one"));
  }
  UniqueFd rendezvous = channel.TakeRendezvous();
  if (!rendezvous) return NoEndpointLeft(channel);
  rendezvous_ = MakeRendezvous(std::move(rendezvous));
  prepared_.clear();
  return absl::OkStatus();
}

absl::StatusOr<LocalRegion> ShmEndpoint::Register(uint64_t bytes, RegionAccess access) {
  if (registered_.size() == kMaxRegions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("an shm endpoint has at most ", kMaxRegions, " regions"));
  }
  const auto id = static_cast<uint32_t>(registered_.size());
  HAVEN_ASSIGN_OR_RETURN(SharedMemory memory,
                         SharedMemory::Create(absl::StrCat("shm region ", id), bytes));
  const LocalRegion region = {.id = id, .bytes = memory.bytes()};
  registered_.push_back({.memory = std::move(memory), .access = access});
  local_table_.Add(id, region.bytes);
  return region;
}

absl::StatusOr<const ShmEndpoint::Registered*> ShmEndpoint::FindExportable(
    const LocalRegion& region) const {
  if (region.id >= registered_.size() ||
      registered_[region.id].memory.bytes().data() != region.bytes.data()) {
    return absl::InvalidArgumentError(
        absl::StrCat("region ", region.id, " was not registered with this endpoint"));
  }
  const Registered& found = registered_[region.id];
  if (found.access != RegionAccess::kRemoteWrite) {
    return absl::InvalidArgumentError(
        absl::StrCat("region ", region.id, " was registered for local use only"));
  }
  return &found;
}

absl::StatusOr<RemoteRegion> ShmEndpoint::Export(const LocalRegion& region) const {
  HAVEN_ASSIGN_OR_RETURN(const Registered* found, FindExportable(region));
  return RemoteRegion{.key = region.id, .base = 0, .bytes = found->memory.bytes().size()};
}

absl::StatusOr<std::string> ShmEndpoint::Offer(const LocalRegion& region) {
  HAVEN_ASSIGN_OR_RETURN(const Registered* found, FindExportable(region));
  RegionBlob blob = {.region = region.id, .bytes = found->memory.bytes().size()};
  HAVEN_ASSIGN_OR_RETURN(blob.token, MakeRandomToken());
  const int fd = found->memory.fd();
  HAVEN_RETURN_IF_ERROR(rendezvous_->Send(RendezvousKind::kRegion, blob.token, {&fd, 1},
                                          ShmDeadline(kRendezvousSendTimeout)));
  return EncodeRegionBlob(blob);
}

// There is nothing to wait for: the descriptor was sent before the blob was made.
absl::StatusOr<RemoteRegion> ShmEndpoint::Import(absl::string_view blob,
                                                 absl::Duration /*timeout*/) {
  HAVEN_ASSIGN_OR_RETURN(const RegionBlob wanted, DecodeRegionBlob(blob));
  const std::string what = absl::StrCat("region ", wanted.region, " of pid ", peer_->pid());
  HAVEN_ASSIGN_OR_RETURN(std::optional<std::vector<UniqueFd>> fds,
                         rendezvous_->Claim(RendezvousKind::kRegion, wanted.token));
  if (!fds.has_value()) {
    if (rendezvous_->hung_up()) return absl::UnavailableError(absl::StrCat(PeerName(), " is gone"));
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the blob was imported before, or is not from this connection"));
  }
  const RemoteRegion remote = {.key = wanted.region, .base = 0, .bytes = wanted.bytes};
  std::optional<SharedMemory>& slot = imported_[wanted.region];
  if (!slot.has_value()) {
    HAVEN_ASSIGN_OR_RETURN(SharedMemory memory,
                           SharedMemory::Import(what, std::move(fds->front()), wanted.bytes));
    slot.emplace(std::move(memory));
    remote_table_.Add(wanted.region, slot->bytes());
    return remote;
  }
  // Offered again after a reconnect.
  if (!slot->IsBackedBy(fds->front().get()) || slot->bytes().size() != wanted.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the peer offers other memory under the same id"));
  }
  return remote;
}

absl::StatusOr<std::string> ShmEndpoint::PrepareLink() {
  if (prepared_.size() == kMaxPrepared) {
    return absl::ResourceExhaustedError(absl::StrCat(
        PeerName(), " has connected to none of the last ", kMaxPrepared, " links prepared"));
  }
  HAVEN_ASSIGN_OR_RETURN(const Token token, MakeRandomToken());
  HAVEN_ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Create("shm link", sizeof(LinkMemory)));
  new (memory.bytes().data()) LinkMemory();
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  UniqueFd own(pair[0]);
  const UniqueFd theirs(pair[1]);
  const int sent[] = {memory.fd(), theirs.get()};
  HAVEN_RETURN_IF_ERROR(
      rendezvous_->Send(RendezvousKind::kLink, token, sent, ShmDeadline(kRendezvousSendTimeout)));
  prepared_.push_back(
      {.token = token,
       .parts = {
           .memory = std::move(memory), .sending_lane = 0, .wake = std::move(own), .peer = peer_}});
  return EncodeLinkBlob({.token = token});
}

absl::StatusOr<std::unique_ptr<Link>> ShmEndpoint::ConnectLink(absl::string_view blob,
                                                               absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const LinkBlob wanted, DecodeLinkBlob(blob));
  HAVEN_ASSIGN_OR_RETURN(std::optional<std::vector<UniqueFd>> fds,
                         rendezvous_->Claim(RendezvousKind::kLink, wanted.token));
  if (!fds.has_value()) {
    if (rendezvous_->hung_up()) return absl::UnavailableError(absl::StrCat(PeerName(), " is gone"));
    return absl::PermissionDeniedError(
        absl::StrCat("the link's token was used before, or was not prepared by ", PeerName(),
                     " on this connection"));
  }
  HAVEN_ASSIGN_OR_RETURN(
      SharedMemory memory,
      SharedMemory::Import("shm link", std::move(fds->at(0)), sizeof(LinkMemory)));
  HAVEN_RETURN_IF_ERROR(CheckUnixSocket(fds->at(1).get(), SOCK_STREAM));
  HAVEN_RETURN_IF_ERROR(
      rendezvous_->Send(RendezvousKind::kConnected, wanted.token, {}, ShmDeadline(timeout)));
  return MakeLink({.memory = std::move(memory),
                   .sending_lane = 1,
                   .wake = std::move(fds->at(1)),
                   .peer = peer_});
}

absl::StatusOr<std::unique_ptr<Link>> ShmEndpoint::AcceptLink(absl::Duration timeout) {
  if (prepared_.empty()) {
    return absl::FailedPreconditionError("AcceptLink without a PrepareLink before");
  }
  HAVEN_RETURN_IF_ERROR(rendezvous_->Await(RendezvousKind::kConnected, prepared_.front().token,
                                           ShmDeadline(timeout)));
  Prepared connected = std::move(prepared_.front());
  prepared_.pop_front();
  return MakeLink(std::move(connected.parts));
}

std::unique_ptr<Link> ShmEndpoint::MakeLink(ShmLinkParts parts) {
  parts.local = &local_table_;
  parts.remote = &remote_table_;
  return std::make_unique<ShmLink>(std::move(parts));
}

}  // namespace haven
