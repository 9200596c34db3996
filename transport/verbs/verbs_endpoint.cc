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
    DeviceRegistry& registry, std::vector<std::unique_ptr<Rail>> rails, const Incarnation& peer,
    const VerbsEndpointOptions& options, const Clock& clock) {
  HAVEN_CHECK(!rails.empty() && rails.size() <= kMaxRails) << "rails=" << rails.size();
  std::unique_ptr<VerbsEndpoint> endpoint(
      new VerbsEndpoint(std::move(rails), peer, options, clock));
  endpoint->registered_.reserve(kMaxRegions);
  HAVEN_ASSIGN_OR_RETURN(endpoint->acceptor_, LinkAcceptor::Listen(endpoint->rails_, options.pair));
  for (const std::unique_ptr<Rail>& rail : endpoint->rails_) {
    HAVEN_LOG(kInfo, "verbs") << "rail: " << rail->Describe();
  }
  endpoint->removals_ = registry.Subscribe(
      [self = endpoint.get()](const RdmaDevice& device) { self->LoseDevice(device); });
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
  HAVEN_RETURN_IF_ERROR(CheckRails());
  return acceptor_->Drop();
}

absl::Status VerbsEndpoint::CheckRails() const {
  for (const std::unique_ptr<Rail>& rail : rails_) {
    if (rail->pd() != nullptr) return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(rails_.back()->Describe(),
                   " was removed from this host, and no other rail is left: this session is over; "
                   "a new one begins when there is an RDMA device again"));
}

// Called in the registry's thread. The links end by themselves: each hears of it from its own
// connection.
void VerbsEndpoint::LoseDevice(const RdmaDevice& device) {
  for (uint32_t i = 0; i < rails_.size(); ++i) {
    Rail& rail = *rails_[i];
    if (!rail.IsOn(device)) continue;
    acceptor_->CloseRail(i);
    {
      const std::lock_guard<std::mutex> lock(regions_mutex_);
      for (Registered& region : registered_) {
        region.registrations[i].reset();
        region.rkeys[i] = 0;
      }
    }
    rail.Close();
    HAVEN_LOG(kError, "verbs") << rail.Describe() << " is given up";
  }
  const absl::Status left = CheckRails();
  if (!left.ok()) HAVEN_LOG(kError, "verbs") << left.message();
}

uint32_t VerbsEndpoint::max_write_bytes() const {
  uint32_t most = UINT32_MAX;
  for (const std::unique_ptr<Rail>& rail : rails_)
    most = std::min(most, rail->limits().write_bytes);
  return most;
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
  return CheckLockedMemory(ReadLockedMemoryFacts(), bytes * (one_device_ ? 1 : 2),
                           "an RDMA region");
}

absl::StatusOr<LocalRegion> VerbsEndpoint::Register(uint64_t bytes, RegionAccess access) {
  const std::lock_guard<std::mutex> lock(regions_mutex_);
  HAVEN_RETURN_IF_ERROR(CheckRails());
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
    if (rail > 0 && one_device_) {
      lkeys[rail] = lkeys[0];
      region.rkeys[rail] = region.rkeys[0];
      continue;
    }
    const std::shared_ptr<ibv_pd> pd = rails_[rail]->pd();
    if (pd == nullptr) continue;
    UniqueMr mr(ibv_reg_mr(pd.get(), bytes.data(), bytes.size(), access));
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
  const std::lock_guard<std::mutex> lock(regions_mutex_);
  HAVEN_ASSIGN_OR_RETURN(const Registered* found, FindExportable(region));
  const std::span<std::byte> bytes = found->memory.bytes();
  return RemoteRegion{.key = PackRemoteKeys(found->rkeys),
                      .base = reinterpret_cast<uintptr_t>(bytes.data()),
                      .bytes = bytes.size()};
}

absl::StatusOr<std::string> VerbsEndpoint::Offer(const LocalRegion& region) {
  const absl::Status rails = CheckRails();
  if (!rails.ok()) return absl::NotFoundError(rails.message());
  const std::lock_guard<std::mutex> lock(regions_mutex_);
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

// The rail of the same number, where there is one that speaks the same family; else the first one
// that is left.
std::optional<uint32_t> VerbsEndpoint::LocalRailFor(const LinkWayBlob& way) const {
  const auto speaks = [&](uint32_t rail) {
    return rails_[rail]->pd() != nullptr && rails_[rail]->local().family() == way.address.family();
  };
  if (way.rail < rails_.size() && speaks(way.rail)) return way.rail;
  for (uint32_t rail = 0; rail < rails_.size(); ++rail) {
    if (speaks(rail)) return rail;
  }
  return std::nullopt;
}

// In the blob's order; across rails, one of which was removed here, only if nothing else is left.
std::vector<VerbsEndpoint::LinkWay> VerbsEndpoint::WaysOf(const VerbsLinkBlob& blob) const {
  std::vector<LinkWay> ways;
  for (const LinkWayBlob& way : blob.ways) {
    const std::optional<uint32_t> local = LocalRailFor(way);
    if (local.has_value()) ways.push_back({&way, *local});
  }
  std::stable_partition(ways.begin(), ways.end(), [this](const LinkWay& one) {
    return one.local == one.way->rail || one.way->rail >= rails_.size();
  });
  return ways;
}

absl::StatusOr<std::unique_ptr<Link>> VerbsEndpoint::ConnectLink(absl::string_view blob,
                                                                 absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const VerbsLinkBlob link, DecodeVerbsLinkBlob(blob));
  HAVEN_RETURN_IF_ERROR(Undestroyed());
  const NetDeadline deadline(timeout);
  const std::vector<LinkWay> ways = WaysOf(link);
  absl::Status failed = absl::UnavailableError("no rail of this host reaches the peer's");
  for (size_t i = 0; i < ways.size(); ++i) {
    const LinkWayBlob& way = *ways[i].way;
    const uint32_t local = ways[i].local;
    const bool last = i + 1 == ways.size();
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
