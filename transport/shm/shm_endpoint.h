// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SHM_ENDPOINT_H_
#define HAVEN_TRANSPORT_SHM_SHM_ENDPOINT_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/endpoint.h"
#include "transport/shm/peer_process.h"
#include "transport/shm/random_token.h"
#include "transport/shm/region_table.h"
#include "transport/shm/rendezvous.h"
#include "transport/shm/shared_memory.h"
#include "transport/shm/shm_control_channel.h"
#include "transport/shm/shm_link.h"

namespace haven {

// Regions are memfds; the key of a RemoteRegion is its owner's region id, its base is 0. Offer and
// PrepareLink send the descriptors at once, by a way of their own beside the control channel, so
// the blobs may travel in any message. Blobs are good as long as the channel is attached on which
// they were made; a region may be offered again after a reconnect and keeps its key.
//
// Besides the errors of fabric.h and endpoint.h:
// - Register: ResourceExhausted beyond kMaxRegions regions.
// - Offer, Export: InvalidArgument for a region of another endpoint, or one with
// RegionAccess::kLocal.
// - PrepareLink: ResourceExhausted beyond kMaxPrepared links that nobody has connected to.
// - AcceptLink: FailedPrecondition if no link is prepared. A link stays prepared after
//   DeadlineExceeded, so that a call with a timeout of zero may be repeated.
// - All that talk to the peer: DataLoss if it has sent something malformed; Unavailable if it is
// gone.
class ShmEndpoint final : public Endpoint {
 public:
  static constexpr size_t kMaxPrepared = 8;

  // Takes the channel's rendezvous. FailedPrecondition: an endpoint has it already.
  static absl::StatusOr<std::unique_ptr<ShmEndpoint>> Make(ShmControlChannel& channel);

  // From now on through `channel`. Links that were prepared and not connected are dropped; existing
  // links and all regions stay. FailedPrecondition: the channel leads to another process than the
  // endpoint's, or has an endpoint already.
  absl::Status Attach(ShmControlChannel& channel);

  absl::StatusOr<LocalRegion> Register(uint64_t bytes, RegionAccess access) override;
  absl::StatusOr<RemoteRegion> Export(const LocalRegion& region) const override;
  uint32_t max_write_bytes() const override { return kShmMaxTransferBytes; }

  absl::StatusOr<std::string> Offer(const LocalRegion& region) override;
  absl::StatusOr<RemoteRegion> Import(absl::string_view blob, absl::Duration timeout) override;
  absl::StatusOr<std::string> PrepareLink() override;
  absl::StatusOr<std::unique_ptr<Link>> ConnectLink(absl::string_view blob,
                                                    absl::Duration timeout) override;
  absl::StatusOr<std::unique_ptr<Link>> AcceptLink(absl::Duration timeout) override;

 private:
  struct Registered {
    SharedMemory memory;
    RegionAccess access;
  };
  struct Prepared {
    Token token;
    ShmLinkParts parts;
  };

  ShmEndpoint(std::shared_ptr<const PeerProcess> peer, UniqueFd rendezvous);

  std::string PeerName() const;
  std::unique_ptr<Rendezvous> MakeRendezvous(UniqueFd socket) const;
  std::unique_ptr<Link> MakeLink(ShmLinkParts parts);
  // The owner's side of an exportable region, after checking that it is one of ours.
  absl::StatusOr<const Registered*> FindExportable(const LocalRegion& region) const;

  const std::shared_ptr<const PeerProcess> peer_;
  std::unique_ptr<Rendezvous> rendezvous_;

  std::vector<Registered> registered_;                             // By id.
  std::array<std::optional<SharedMemory>, kMaxRegions> imported_;  // By the peer's id.
  RegionTable local_table_;
  RegionTable remote_table_;

  std::deque<Prepared> prepared_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SHM_ENDPOINT_H_
