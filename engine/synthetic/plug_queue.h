// SPDX-License-Identifier: Apache-2.0
//
// The packet queue of Linux' plug qdisc (net/sched/sch_plug.c), without the kernel around it.
#ifndef HAVEN_ENGINE_SYNTHETIC_PLUG_QUEUE_H_
#define HAVEN_ENGINE_SYNTHETIC_PLUG_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/synthetic/packet_log.h"

namespace haven {

// The same counters, the same rules: what the engine relies on, and what it has to avoid, is the
// same as with a real NIC. The counters count packets and mark no place in the queue, so
//
//   Buffer         overwrites the count of the finished epoch: a second one before ReleaseOne
//   leaves
//                  those packets queued, and later releases let the older ones go instead;
//   ReleaseOne     adds the finished epoch to what may leave;
//   ReleaseAll     forgets all counts; everything leaves, and so does what comes, until Buffer;
//   Enqueue        refuses what goes beyond the limit in bytes; refused packets are not counted.
//
// A new queue is closed. Memory is allocated by the constructor only. Not thread-safe.
class PlugQueue {
 public:
  // Room for `limit_bytes` of packets of `packet_bytes` each.
  PlugQueue(uint64_t limit_bytes, uint32_t packet_bytes);

  // TCQ_PLUG_BUFFER, TCQ_PLUG_RELEASE_ONE, TCQ_PLUG_RELEASE_INDEFINITE.
  void Buffer();
  void ReleaseOne();
  void ReleaseAll();

  // False: dropped at the limit.
  bool Enqueue(const SyntheticPacket& packet);

  // The next packet that may leave now.
  std::optional<SyntheticPacket> Dequeue();

  // Drops every packet and goes back to a new queue.
  void Clear();

  size_t packets() const { return size_; }
  uint64_t bytes() const { return size_ * packet_bytes_; }

 private:
  const uint32_t packet_bytes_;
  std::vector<SyntheticPacket> ring_;
  size_t first_ = 0;
  size_t size_ = 0;

  bool unplug_indefinite_ = false;
  uint64_t packets_current_epoch_ = 0;
  uint64_t packets_last_epoch_ = 0;
  uint64_t packets_to_release_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_PLUG_QUEUE_H_
