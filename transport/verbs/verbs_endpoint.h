// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_VERBS_ENDPOINT_H_
#define HAVEN_TRANSPORT_VERBS_VERBS_ENDPOINT_H_

#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "transport/endpoint.h"
#include "transport/tls/tls_control_channel.h"
#include "transport/verbs/blob.h"
#include "transport/verbs/device_registry.h"
#include "transport/verbs/link_acceptor.h"
#include "transport/verbs/queue_pair.h"
#include "transport/verbs/rail.h"
#include "transport/verbs/region_keys.h"
#include "transport/verbs/region_memory.h"
#include "transport/verbs/verbs_link.h"

namespace haven {

struct VerbsEndpointOptions {
  QueuePairOptions pair;
  VerbsLinkOptions link;
};

// A session's memory and links on one or two rails. Each region is registered once with each rail's
// device, in the session's own protection domain, and keeps its keys as long as the endpoint lives.
// The blobs travel in any control message: nothing else is exchanged beside them.
//
// A RemoteRegion's key holds the peer's keys on both of its rails, its base is the address there.
//
// Besides the errors of fabric.h and endpoint.h:
// - Register: ResourceExhausted beyond kMaxRegions regions.
// - Offer, Export: InvalidArgument for a region of another endpoint, or one with
//   RegionAccess::kLocal.
// - PrepareLink: ResourceExhausted beyond LinkAcceptor::kMaxPrepared links that nobody has
// connected
//   to; Internal while a queue pair that could not be destroyed is left.
// - ConnectLink tries the ways of the blob in their order, the first of two for half of the time;
//   the error is the last way's.
// - A device that is removed from this host takes its rails with it: their links fail, its memory
// is
//   deregistered, and the session goes on over the other rail, if there is one. If not, Attach is
//   FailedPrecondition, Offer NotFound, and PrepareLink and ConnectLink are Unavailable.
// - AcceptLink: FailedPrecondition if no link is prepared, or a link was revoked. A link stays
//   prepared after DeadlineExceeded, so that a call with a timeout of zero may be repeated.
// - All links and blobs of one session are for the peer of the channel: Attach with another
//   process' channel is FailedPrecondition.
class VerbsEndpoint final : public Endpoint, private LinkOwner {
 public:
  // `rails` has 1 .. kMaxRails elements, of `registry`; `peer` is the process at the other end of
  // the channel; `registry` and `clock` outlive the object. Errors of LinkAcceptor.
  static absl::StatusOr<std::unique_ptr<VerbsEndpoint>> Make(
      DeviceRegistry& registry, std::vector<std::unique_ptr<Rail>> rails, const Incarnation& peer,
      const VerbsEndpointOptions& options, const Clock& clock);
  ~VerbsEndpoint() override;

  // Goes on with another channel to the same process. Links that were prepared and not handed out
  // are given up; existing links and all regions stay. Internal: a queue pair of them could not be
  // destroyed.
  absl::Status Attach(const TlsControlChannel& channel);

  absl::StatusOr<LocalRegion> Register(uint64_t bytes, RegionAccess access) override;
  absl::StatusOr<RemoteRegion> Export(const LocalRegion& region) const override;
  uint32_t max_write_bytes() const override;

  absl::StatusOr<std::string> Offer(const LocalRegion& region) override;
  absl::StatusOr<RemoteRegion> Import(absl::string_view blob, absl::Duration timeout) override;
  absl::StatusOr<std::string> PrepareLink() override;
  absl::StatusOr<std::unique_ptr<Link>> ConnectLink(absl::string_view blob,
                                                    absl::Duration timeout) override;
  absl::StatusOr<std::unique_ptr<Link>> AcceptLink(absl::Duration timeout) override;

 private:
  struct MrDeleter {
    void operator()(ibv_mr* mr) const { ibv_dereg_mr(mr); }
  };
  using UniqueMr = std::unique_ptr<ibv_mr, MrDeleter>;
  struct Registered {
    RegionMemory memory;
    RegionAccess access;
    std::array<UniqueMr, kMaxRails> registrations;  // By rail; null if it shares the first one's.
    std::array<uint32_t, kMaxRails> rkeys;
  };

  VerbsEndpoint(std::vector<std::unique_ptr<Rail>> rails, const Incarnation& peer,
                const VerbsEndpointOptions& options, const Clock& clock)
      : rails_(std::move(rails)),
        one_device_(rails_.size() == 1 || rails_[0]->pd() == rails_[1]->pd()),
        peer_(peer),
        options_(options),
        clock_(clock) {}

  absl::Status CheckRegion(uint64_t bytes) const;
  absl::Status RegisterOnRails(Registered& region, RegionKeys::Keys& lkeys) const;
  absl::StatusOr<const Registered*> FindExportable(const LocalRegion& region) const;
  std::unique_ptr<Link> MakeLink(std::unique_ptr<CmQueuePair> pair, uint32_t local_rail,
                                 uint32_t remote_rail);
  // A way of a link, and the rail of this side for it.
  struct LinkWay {
    const LinkWayBlob* way = nullptr;
    uint32_t local = 0;
  };
  std::vector<LinkWay> WaysOf(const VerbsLinkBlob& blob) const;
  std::optional<uint32_t> LocalRailFor(const LinkWayBlob& way) const;
  void LoseDevice(const RdmaDevice& device);
  absl::Status CheckRails() const;

  absl::Status CutPending() override;
  void NoteUndestroyed(const absl::Status& cause) override;
  absl::Status Undestroyed() const;

  const std::vector<std::unique_ptr<Rail>> rails_;
  // A second rail on the same device uses the registrations of the first one.
  const bool one_device_;
  const Incarnation peer_;
  const VerbsEndpointOptions options_;
  const Clock& clock_;
  mutable std::mutex regions_mutex_;
  std::vector<Registered> registered_;  // By id.
  RegionKeys regions_;
  std::unique_ptr<LinkAcceptor> acceptor_;

  mutable std::mutex mutex_;
  absl::Status undestroyed_;  // Why a queue pair of an ended link could not be destroyed.

  // Last, so that it ends first.
  std::unique_ptr<DeviceRegistry::Subscription> removals_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_VERBS_ENDPOINT_H_
