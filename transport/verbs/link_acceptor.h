// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_LINK_ACCEPTOR_H_
#define HAVEN_TRANSPORT_VERBS_LINK_ACCEPTOR_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/tls/deadline.h"
#include "transport/verbs/blob.h"
#include "transport/verbs/cm_channel.h"
#include "transport/verbs/queue_pair.h"
#include "transport/verbs/rail.h"

namespace haven {

// The accepting side of a session: one listener on each rail, and the links that were prepared and
// not handed out. A connection request is accepted only with the token that a prepared link has for
// that rail, which is good for one request; all others are turned away without a queue pair. A
// request on another rail takes the place of one that has not led to a connection yet.
//
// Thread-safe: CutOff() may be called while another thread is in Accept().
class LinkAcceptor {
 public:
  static constexpr size_t kMaxPrepared = 8;
  // Connection requests that wait in the kernel on one rail.
  static constexpr int kBacklog = 16;
  // Connection requests looked at in one go.
  static constexpr int kMaxEventsPerTurn = 64;

  struct Accepted {
    std::unique_ptr<CmQueuePair> pair;
    uint32_t rail = 0;       // This side's.
    uint32_t peer_rail = 0;  // The other's.
  };

  // `rails` outlives the object and has 1 .. kMaxRails elements. Errors of librdmacm.
  static absl::StatusOr<std::unique_ptr<LinkAcceptor>> Listen(
      const std::vector<std::unique_ptr<Rail>>& rails, const QueuePairOptions& options);

  // Prepares one more link. The rail named first alternates, so that two links that are prepared
  // one after the other go over different rails. ResourceExhausted beyond kMaxPrepared;
  // FailedPrecondition after CutOff(); Unavailable when all rails were closed.
  absl::StatusOr<VerbsLinkBlob> Prepare();

  // The queue pair of the link that was prepared first, once its peer has connected.
  // FailedPrecondition: none is prepared, or CutOff() was called; Unavailable: the peer has taken
  // this link by each rail and then given it up, the link is not prepared any more;
  // DeadlineExceeded: not yet, the link stays prepared, the call may be repeated.
  absl::StatusOr<Accepted> Accept(const NetDeadline& deadline);

  // The device of a rail is being removed: nobody is accepted on it any more, and its queue pairs
  // that were not handed out are destroyed.
  void CloseRail(uint32_t rail);

  // Gives up what is prepared. An error: a queue pair could not be destroyed; it stays here and the
  // call may be repeated.
  absl::Status Drop();
  // The same, for good.
  absl::Status CutOff();

 private:
  struct Prepared {
    std::array<LinkToken, kMaxRails> tokens = {};  // By rail.
    std::array<bool, kMaxRails> used = {};
    bool established = false;
    std::unique_ptr<CmQueuePair> pair = nullptr;
    uint32_t rail = 0;  // Of `pair`, on this side.
    uint32_t peer_rail = 0;
    absl::Status failure = absl::OkStatus();
  };

  LinkAcceptor(const std::vector<std::unique_ptr<Rail>>& rails, const QueuePairOptions& options,
               CmChannel channel)
      : rails_(rails), options_(options), channel_(std::move(channel)) {}

  absl::Status ListenOn(const Rail& rail);
  absl::Status DropLocked();
  absl::Status TurnLocked();
  void TakeRequestLocked(const CmEvent& event);
  absl::Status AcceptRequestLocked(UniqueCmId id, uint32_t rail, Prepared& link);
  Prepared* FindPrepared(uint32_t rail, const LinkToken& token);
  void FollowLocked(Prepared& link);

  const std::vector<std::unique_ptr<Rail>>& rails_;
  const QueuePairOptions options_;

  std::mutex mutex_;
  CmChannel channel_;
  std::vector<UniqueCmId> listeners_;  // By rail; null once it was closed.
  std::deque<Prepared> prepared_;
  uint32_t first_rail_ = 0;
  bool cut_off_ = false;
  uint64_t turned_away_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_LINK_ACCEPTOR_H_
