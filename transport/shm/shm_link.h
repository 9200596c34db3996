// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SHM_LINK_H_
#define HAVEN_TRANSPORT_SHM_SHM_LINK_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "engine/base/fd.h"
#include "transport/fabric.h"
#include "transport/shm/completion_queue.h"
#include "transport/shm/link_lane.h"
#include "transport/shm/peer_process.h"
#include "transport/shm/region_table.h"
#include "transport/shm/shared_memory.h"

namespace haven {

// Largest WRITE or READ in bytes.
inline constexpr uint32_t kShmMaxTransferBytes = uint32_t{1} << 30;

// What a link needs, from the endpoint that made it.
struct ShmLinkParts {
  SharedMemory memory;        // Holds a LinkMemory.
  uint32_t sending_lane = 0;  // Index of the lane on which this side sends; the other one receives.
  UniqueFd wake;              // This side's end of a connected pair of stream sockets.
  std::shared_ptr<const PeerProcess> peer;
  const RegionTable* local = nullptr;  // Both outlive the link.
  const RegionTable* remote = nullptr;
};

// A link between two processes of one host. PostWrites copies into the peer's memory before it
// returns, so a completion is there at once, and when the link's owner has destroyed it nothing of
// what it posted can land later. The peer's own late writes end only with Revoke().
//
// An immediate goes through a ring in shared memory (link_lane.h). One byte on a socket wakes a
// peer that has armed its event; the same socket hangs up when the peer's link or process is gone.
// (An eventfd would do the first only, and a peer could make a write to it block.)
//
// The link fails, reports it by exactly one completion that is not kOk or kFlushed, and returns
// Unavailable from then on, when
// - the peer has destroyed its link or is dead: kRetry. Noticed at the latest 200 us after the fact
// by
//   the next PostWrites, PostRead or Poll, or at once by whoever waits on event_fd(). A request
//   that finished before is kOk: it has reached the peer's memory, which says nothing about the
//   peer. What the peer sent before its end can still be polled;
// - it sends an immediate for which the peer has posted no receive: kRetry, after the data has
// landed;
// - the shared memory holds something impossible: kOther.
// With no request at hand the completion is {id 0, kImmediate}.
//
// Besides the errors of fabric.h: InvalidArgument (nothing posted, the link goes on) for a request
// that does not lie in its regions, exceeds kShmMaxTransferBytes, or a list of more than
// CompletionQueue::kDepth requests. ResourceExhausted when fewer than requests.size() slots of that
// depth are free, or beyond kMaxReceives posted receives.
class ShmLink final : public Link {
 public:
  // A killed peer still has to give up its memory, which takes longer the more it has.
  static constexpr absl::Duration kRevokeTimeout = absl::Seconds(10);

  explicit ShmLink(ShmLinkParts parts);
  ~ShmLink() override;

  absl::Status PostWrites(std::span<const WriteRequest> requests) override;
  absl::Status PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                        RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) override;
  absl::Status PostReceives(uint32_t count) override;
  size_t Poll(std::span<Completion> out) override;
  int event_fd() const override { return parts_.wake.get(); }
  absl::Status ArmEvent() override;

  // Kills the peer's process and waits until it is dead (peer_process.h: why that is the proof).
  // Repeatable. DeadlineExceeded after kRevokeTimeout, FailedPrecondition if the peer is in this
  // very process, PermissionDenied. Afterwards Poll returns nothing.
  absl::Status Revoke() override;

 private:
  enum class Failure : uint8_t { kNone, kPeerGone, kNoReceive, kCorrupt, kRevoked };
  static constexpr size_t kFailures = 5;

  // Errors are made beforehand, with their messages, because the data path does not allocate.
  struct Statuses {
    absl::Status queue_full;
    absl::Status receives_full;
    absl::Status list_too_long;
    absl::Status out_of_bounds;
    std::array<absl::Status, kFailures> failed;
  };
  static Statuses MakeStatuses(pid_t peer);

  const absl::Status& failed_status() const {
    return statuses_.failed[static_cast<size_t>(failure_)];
  }
  std::byte* FindRemote(const RemoteRegion& remote, uint64_t offset, uint32_t bytes) const;
  bool Write(const WriteRequest& request);
  void FailFrom(std::span<const WriteRequest> requests);
  bool SendImmediate(uint32_t immediate);
  void WakePeer();
  size_t TakeImmediates(std::span<Completion> out);
  bool PeerIsGone();
  void CheckPeer();
  void Fail(Failure failure);

  ShmLinkParts parts_;
  LaneSender sender_;
  LaneReceiver receiver_;
  const Statuses statuses_;

  CompletionQueue completions_;
  Failure failure_ = Failure::kNone;
  bool failure_reported_ = false;
  // The event was armed and Poll() has found nothing since: its caller may be about to sleep.
  bool event_armed_ = false;
  int64_t peer_checked_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SHM_LINK_H_
