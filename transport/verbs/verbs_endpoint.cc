// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/verbs_endpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "transport/verbs/blob.h"
#include "transport/verbs/cm_connect.h"
#include "transport/verbs/locked_memory.h"

namespace haven {

absl::StatusOr<std::unique_ptr<VerbsEndpoint>> VerbsEndpoint::Make(
    std::vector<std::unique_ptr<Rail>> rails, const Incarnation& peer,
    const VerbsEndpointOptions& options, const Clock& clock) {
  HAVEN_CHECK(!rails.empty() && rails.size() <= kMaxRails) << "rails=" << rails.size();
  std::unique_ptr<VerbsEndpoint> endpoint(
      new VerbsEndpoint(std::move(rails), peer, options, clock));
  endpoint->registered_.reserve(kMaxRegions);
  HAVEN_ASSIGN_OR_RETURN(endpoint->acceptor_, LinkAcceptor::Listen(endpoint->rails_, options.pair));
  for (const std::unique_ptr<Rail>& rail : endpoint->rails_) {
    HAVEN_LOG(kInfo, "verbs") << "rail: " << rail->Describe();
  }
  return endpoint;
}

VerbsEndpoint::~VerbsEndpoint() = default;

absl::Status VerbsEndpoint::Attach(const TlsControlChannel& channel) {
  if (channel.peer() != peer_) {
    return absl::FailedPreconditionError(
        absl::StrCat(channel.Describe(),
                     ": another process than that of this session; a session "
                     "ends with its process, start a new one"));
  }
  return acceptor_->Drop();
}

uint32_t VerbsEndpoint::max_write_bytes() const {
  uint32_t most = UINT32_MAX;
  for (const std::unique_ptr<Rail>& rail : rails_)
    most = std::min(most, rail->limits().write_bytes);
  return most;
}

uint32_t VerbsEndpoint::DevicesUsed() const {
  return rails_.size() == 2 && rails_[0]->context() != rails_[1]->context() ? 2 : 1;
}

absl::Status VerbsEndpoint::CheckRegion(uint64_t bytes) const {
  if (registered_.size() == kMaxRegions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a session has at most ", kMaxRegions, " regions"));
  }
  uint64_t most = kMaxRegionBytes;
  for (const std::unique_ptr<Rail>& rail : rails_) {
    most = std::min(most, rail->limits().region_bytes);
  }
  if (bytes == 0 || bytes > most) {
    return absl::InvalidArgumentError(absl::StrCat("a region of ", bytes, " bytes; ",
                                                   rails_[0]->Describe(), " takes 1 to ", most));
  }
  // Each device pins the region for itself.
  return CheckLockedMemory(ReadLockedMemoryFacts(), bytes * DevicesUsed(), "an RDMA region");
}

absl::StatusOr<LocalRegion> VerbsEndpoint::Register(uint64_t bytes, RegionAccess access) {
  HAVEN_RETURN_IF_ERROR(CheckRegion(bytes));
  HAVEN_ASSIGN_OR_RETURN(RegionMemory memory, RegionMemory::Allocate(bytes, "an RDMA region"));
  Registered region = {
      .memory = std::move(memory), .access = access, .registrations = {}, .rkeys = {}};
  RegionKeys::Keys lkeys = {};
  HAVEN_RETURN_IF_ERROR(RegisterOnRails(region, lkeys));
  const LocalRegion local = {.id = static_cast<uint32_t>(registered_.size()),
                             .bytes = region.memory.bytes()};
  registered_.push_back(std::move(region));
  regions_.Add(local.id, local.bytes, lkeys);
  return local;
}

absl::Status VerbsEndpoint::RegisterOnRails(Registered& region, RegionKeys::Keys& lkeys) const {
  // No relaxed ordering: the backup relies on what an immediate says is there.
  int access = IBV_ACCESS_LOCAL_WRITE;
  if (region.access == RegionAccess::kRemoteWrite) {
    access |= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
  }
  const std::span<std::byte> bytes = region.memory.bytes();
  for (size_t rail = 0; rail < rails_.size(); ++rail) {
    if (rail > 0 && DevicesUsed() == 1) {
      lkeys[rail] = lkeys[0];
      region.rkeys[rail] = region.rkeys[0];
      continue;
    }
    UniqueMr mr(ibv_reg_mr(rails_[rail]->pd(), bytes.data(), bytes.size(), access));
    if (mr == nullptr) {
      const std::string message =
          absl::StrCat("registering ", bytes.size(), " bytes with ", rails_[rail]->Describe(), ": ",
                       std::strerror(errno));
      if (errno != ENOMEM && errno != EAGAIN) return absl::InternalError(message);
      return absl::ResourceExhaustedError(
          absl::StrCat(message, "; raise RLIMIT_MEMLOCK (ulimit -l), or ask for a smaller region"));
    }
    lkeys[rail] = mr->lkey;
    region.rkeys[rail] = mr->rkey;
    region.registrations[rail] = std::move(mr);
  }
  return absl::OkStatus();
}

absl::StatusOr<const VerbsEndpoint::Registered*> VerbsEndpoint::FindExportable(
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

absl::StatusOr<RemoteRegion> VerbsEndpoint::Export(const LocalRegion& region) const {
  HAVEN_ASSIGN_OR_RETURN(const Registered* found, FindExportable(region));
  const std::span<std::byte> bytes = found->memory.bytes();
  return RemoteRegion{.key = PackRemoteKeys(found->rkeys),
                      .base = reinterpret_cast<uintptr_t>(bytes.data()),
                      .bytes = bytes.size()};
}

absl::StatusOr<std::string> VerbsEndpoint::Offer(const LocalRegion& region) {
  HAVEN_ASSIGN_OR_RETURN(const Registered* found, FindExportable(region));
  const std::span<std::byte> bytes = found->memory.bytes();
  return EncodeVerbsRegionBlob({.rails = static_cast<uint32_t>(rails_.size()),
                                .rkeys = found->rkeys,
                                .address = reinterpret_cast<uintptr_t>(bytes.data()),
                                .bytes = bytes.size()});
}

// There is nothing to wait for: the blob says everything.
absl::StatusOr<RemoteRegion> VerbsEndpoint::Import(absl::string_view blob,
                                                   absl::Duration /*timeout*/) {
  HAVEN_ASSIGN_OR_RETURN(const VerbsRegionBlob region, DecodeVerbsRegionBlob(blob));
  return RemoteRegion{
      .key = PackRemoteKeys(region.rkeys), .base = region.address, .bytes = region.bytes};
}

absl::StatusOr<std::string> VerbsEndpoint::PrepareLink() {
  HAVEN_RETURN_IF_ERROR(Undestroyed());
  HAVEN_ASSIGN_OR_RETURN(const VerbsLinkBlob blob, acceptor_->Prepare());
  return EncodeVerbsLinkBlob(blob);
}

// The rail of the same number, where there is one that speaks the same family.
uint32_t VerbsEndpoint::LocalRailFor(uint32_t remote_rail, const InetAddress& address) const {
  if (remote_rail < rails_.size() && rails_[remote_rail]->local().family() == address.family()) {
    return remote_rail;
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<Link>> VerbsEndpoint::ConnectLink(absl::string_view blob,
                                                                 absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const VerbsLinkBlob link, DecodeVerbsLinkBlob(blob));
  HAVEN_RETURN_IF_ERROR(Undestroyed());
  const NetDeadline deadline(timeout);
  absl::Status failed;
  for (size_t i = 0; i < link.ways.size(); ++i) {
    const LinkWayBlob& way = link.ways[i];
    const uint32_t local = LocalRailFor(way.rail, way.address);
    const bool last = i + 1 == link.ways.size();
    absl::StatusOr<std::unique_ptr<CmQueuePair>> pair = ConnectQueuePair(
        *rails_[local], way.address, {.rail = local, .token = way.token}, options_.pair,
        last ? deadline : deadline.AtMost(deadline.Remaining() / 2));
    if (pair.ok()) return MakeLink(*std::move(pair), local, way.rail);
    failed = pair.status();
    if (!last) HAVEN_LOG(kWarning, "verbs") << "trying the other rail: " << failed;
  }
  return failed;
}

absl::StatusOr<std::unique_ptr<Link>> VerbsEndpoint::AcceptLink(absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(LinkAcceptor::Accepted accepted, acceptor_->Accept(NetDeadline(timeout)));
  return MakeLink(std::move(accepted.pair), accepted.rail, accepted.peer_rail);
}

std::unique_ptr<Link> VerbsEndpoint::MakeLink(std::unique_ptr<CmQueuePair> pair,
                                              uint32_t local_rail, uint32_t remote_rail) {
  return std::make_unique<VerbsLink>(VerbsLinkParts{.pair = std::move(pair),
                                                    .local_rail = local_rail,
                                                    .remote_rail = remote_rail,
                                                    .regions = &regions_,
                                                    .owner = this,
                                                    .clock = &clock_,
                                                    .options = options_.link});
}

absl::Status VerbsEndpoint::CutPending() {
  absl::Status status = acceptor_->CutOff();
  status.Update(Undestroyed());
  return status;
}

void VerbsEndpoint::NoteUndestroyed(const absl::Status& cause) {
  const std::lock_guard<std::mutex> lock(mutex_);
  undestroyed_.Update(cause);
}

absl::Status VerbsEndpoint::Undestroyed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return undestroyed_;
}

}  // namespace haven
