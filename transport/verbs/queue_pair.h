// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_QUEUE_PAIR_H_
#define HAVEN_TRANSPORT_VERBS_QUEUE_PAIR_H_

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/verbs/cm_channel.h"
#include "transport/verbs/rail.h"

namespace haven {

// What a queue pair really got.
struct QueuePairLimits {
  uint32_t send_depth = 0;
  uint32_t receive_depth = 0;
  uint32_t inline_bytes = 0;
  uint32_t write_bytes = 0;
};

// A reliable queue pair with its completion queue and its events. An interface only where calls go
// through the kernel and can fail; posting and polling use the pointers, whose device tests can
// replace by itself. Not thread-safe.
class QueuePair {
 public:
  struct Events {
    bool completion = false;    // The completion queue was armed and is not any more.
    bool disconnected = false;  // The peer has destroyed its side, or the device has gone.
  };

  virtual ~QueuePair() = default;

  virtual ibv_qp* qp() const = 0;
  virtual ibv_cq* cq() const = 0;
  virtual const QueuePairLimits& limits() const = 0;
  virtual std::string Describe() const = 0;

  // Readable when TakeEvents() has something.
  virtual int event_fd() const = 0;
  // What has happened since the last call. One system call when nothing has.
  virtual Events TakeEvents() = 0;

  // Everything outstanding is flushed and nothing more goes out or comes in. An error is of no use
  // to the caller: then the queue pair is in that state already, or the device is gone.
  virtual void MoveToError() = 0;

  // The peer's writes and reads are refused from now on. An error: the state of the queue pair
  // does not allow the change (it is broken already).
  virtual absl::Status TakePermission() = 0;

  // Destroys it. After OK the device knows nothing of it: no byte the peer sent through it can land
  // any more. Repeatable. Only this and Describe() may be called afterwards.
  virtual absl::Status Destroy() = 0;
};

// How links are made; the same on both sides of one.
struct QueuePairOptions {
  // Acknowledgement timeout of the device, 4.096 us * 2^ack_timeout; 14 is 67 ms.
  uint8_t ack_timeout = 14;
  // Both at most 6: 7 means "for ever" for receives, and on soft-RoCE for the other one as well.
  uint8_t retry_count = 6;
  uint8_t rnr_retry_count = 6;
  // Code of the time that a sender waits when no receive is posted; 20 is 10.24 ms.
  uint8_t rnr_timer = 20;
};

// A queue pair on a connection of librdmacm.
class CmQueuePair final : public QueuePair {
 public:
  // Makes the queues on `id`, whose device is the rail's, whose events come to `channel` and which
  // is not connected yet. ResourceExhausted: the device or RLIMIT_MEMLOCK allows no more;
  // Unavailable: the device was removed.
  static absl::StatusOr<std::unique_ptr<CmQueuePair>> Make(const Rail& rail, CmChannel channel,
                                                           UniqueCmId id);
  ~CmQueuePair() override;

  // After the connection stands: what librdmacm does not set. FailedPrecondition: it is down again.
  absl::Status Settle(const QueuePairOptions& options);

  rdma_cm_id* id() const { return id_.get(); }
  CmChannel& channel() { return channel_; }

  ibv_qp* qp() const override { return id_->qp; }
  ibv_cq* cq() const override { return cq_; }
  const QueuePairLimits& limits() const override { return limits_; }
  std::string Describe() const override { return name_; }
  int event_fd() const override { return events_.get(); }
  Events TakeEvents() override;
  void MoveToError() override;
  absl::Status TakePermission() override;
  absl::Status Destroy() override;

 private:
  CmQueuePair(std::shared_ptr<ibv_pd> pd, CmChannel channel, UniqueCmId id)
      : pd_(std::move(pd)), channel_(std::move(channel)), id_(std::move(id)) {}

  absl::Status MakeQueues(const Rail& rail);
  absl::Status WatchEvents();
  bool TakeCompletionEvents();
  bool TakeConnectionEvents();

  // Keeps the device open until the end of Destroy().
  std::shared_ptr<ibv_pd> pd_;
  CmChannel channel_;
  UniqueCmId id_;
  ibv_comp_channel* completion_channel_ = nullptr;
  ibv_cq* cq_ = nullptr;
  unsigned int unacknowledged_ = 0;
  UniqueFd events_;
  QueuePairLimits limits_;
  std::string name_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_QUEUE_PAIR_H_
