// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_VERBS_LINK_H_
#define HAVEN_TRANSPORT_VERBS_VERBS_LINK_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "transport/fabric.h"
#include "transport/verbs/queue_pair.h"
#include "transport/verbs/region_keys.h"
#include "transport/verbs/send_queue.h"

namespace haven {

// The endpoint, as far as its links need it.
class LinkOwner {
 public:
  virtual ~LinkOwner() = default;
  // Destroys the queue pairs that were accepted and not handed out yet, and accepts no more. An
  // error: one could not be destroyed, now or at any time before.
  virtual absl::Status CutPending() = 0;
  // A queue pair could not be destroyed when its link ended.
  virtual void NoteUndestroyed(const absl::Status& cause) = 0;
};

struct VerbsLinkOptions {
  // How long requests may be outstanding without one that finishes. Longer than the device itself
  // tries (QueuePairOptions), so that it normally speaks first.
  int64_t request_timeout_ns = 8 * kNsPerSecond;
  // How often a link that has nothing to report asks whether the peer has left.
  int64_t look_interval_ns = 250 * kNsPerMs;
};

// What a link needs, from the endpoint that made it.
struct VerbsLinkParts {
  std::unique_ptr<QueuePair> pair;
  uint32_t local_rail = 0;
  uint32_t remote_rail = 0;
  const RegionKeys* regions = nullptr;  // These three outlive the link.
  LinkOwner* owner = nullptr;
  const Clock* clock = nullptr;
  VerbsLinkOptions options;
};

// A link over a reliable queue pair.
//
// The last request of each list is signalled, and so is everything that asks for it; a request of
// at most the device's inline size takes its bytes with it. A list is handed to the device in as
// few doorbells as kPostBatch allows.
//
// The link fails, reports it by exactly one completion that is not kOk or kFlushed, and returns
// Unavailable from then on, when
// - the device reports a failed request (wc_status.h);
// - the peer has destroyed its queue pair or the device has gone: kRetry, noticed by the next
//   ArmEvent, or by a Poll with nothing to return, at most look_interval_ns after the fact. What
//   the peer sent before its end can still be polled;
// - no request has finished for request_timeout_ns although some are outstanding, whatever arrives
//   meanwhile: kRetry;
// - the device reports something impossible: kOther.
// The other requests are reported as kFlushed. With no request at hand the completion is
// {id 0, kImmediate}.
//
// A peer that posts no receive for an immediate is found by the device's own retries: kRetry, after
// the data has landed.
//
// Besides the errors of fabric.h: InvalidArgument (nothing posted, the link goes on) for a request
// that does not lie in its regions, exceeds the device's largest message, or a list longer than the
// queue; ResourceExhausted when the queue has not enough room, or beyond the receives it holds.
class VerbsLink final : public Link {
 public:
  // Requests handed over by one doorbell.
  static constexpr size_t kPostBatch = 64;
  // Completions taken from the device at once.
  static constexpr size_t kPollBatch = 16;

  explicit VerbsLink(VerbsLinkParts parts);
  ~VerbsLink() override;

  absl::Status PostWrites(std::span<const WriteRequest> requests) override;
  absl::Status PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                        RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) override;
  absl::Status PostReceives(uint32_t count) override;
  size_t Poll(std::span<Completion> out) override;
  int event_fd() const override { return parts_.pair->event_fd(); }
  absl::Status ArmEvent() override;
  bool armed() const override { return armed_ && failure_ == Failure::kNone; }

  // Destroys the queue pair; if that fails, Revoke() tries again.
  void Retire() override;

  // Takes the permission away, then destroys the queue pair, and those that the endpoint has
  // accepted and not handed out. Repeatable. Internal: something of it could not be destroyed.
  absl::Status Revoke() override;

  // For messages: "queue pair 17 on rxe0 port 1 at 10.9.0.2, MTU 4096".
  std::string Describe() const { return parts_.pair->Describe(); }
  const QueuePairLimits& limits() const { return parts_.pair->limits(); }

 private:
  enum class Failure : uint8_t {
    kNone,
    kRefused,       // By the peer.
    kNoAnswer,      // From the peer.
    kDisconnected,  // By the peer, or the device has gone.
    kDeadline,      // Its own.
    kDevice,        // It failed a request for a reason of this side, or reports nonsense.
    kRevoked,
  };
  static constexpr size_t kFailures = 7;

  // Errors are made beforehand, with their messages, because the data path does not allocate.
  struct Statuses {
    absl::Status queue_full;
    absl::Status receives_full;
    absl::Status list_too_long;
    absl::Status out_of_bounds;
    std::array<absl::Status, kFailures> failed;
  };
  static Statuses MakeStatuses(const QueuePair& pair);

  const absl::Status& failed_status() const {
    return statuses_.failed[static_cast<size_t>(failure_)];
  }
  bool Lies(const WriteRequest& request) const;
  bool PostBatch(std::span<const WriteRequest> requests, bool ends_list);
  bool PostReceiveBatch(uint32_t count);
  // False: the device did not take it.
  bool Send(ibv_send_wr* first, uint64_t first_sequence);
  size_t TakeCompletions(std::span<Completion> out);
  bool TakeSend(const ibv_wc& wc, Completion& out);
  bool TakeReceive(const ibv_wc& wc, Completion& out);
  size_t ReportFailure(std::span<Completion> out);
  void Watch(bool idle);
  void Look();
  void Fail(Failure failure, CompletionResult result);

  VerbsLinkParts parts_;
  const Statuses statuses_;
  SendQueue sends_;
  uint32_t receives_ = 0;  // Posted and not used up.

  Failure failure_ = Failure::kNone;
  CompletionResult failure_result_ = CompletionResult::kOk;
  bool failure_reported_ = false;
  bool receives_flushed_ = false;
  bool armed_ = false;
  // When a request was last seen to finish, as far as it was looked at; 0: look again.
  int64_t progress_ns_ = 0;
  int64_t looked_ns_ = 0;

  // Filled anew for each doorbell.
  std::array<ibv_send_wr, kPostBatch> work_ = {};
  std::array<ibv_sge, kPostBatch> pieces_ = {};
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_VERBS_LINK_H_
