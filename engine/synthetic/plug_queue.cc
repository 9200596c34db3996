// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/plug_queue.h"

#include "engine/base/check.h"

namespace haven {

PlugQueue::PlugQueue(uint64_t limit_bytes, uint32_t packet_bytes)
    : packet_bytes_(packet_bytes), ring_(static_cast<size_t>(limit_bytes / packet_bytes)) {}

void PlugQueue::Buffer() {
  packets_last_epoch_ = packets_current_epoch_;
  packets_current_epoch_ = 0;
  unplug_indefinite_ = false;
}

void PlugQueue::ReleaseOne() {
  packets_to_release_ += packets_last_epoch_;
  packets_last_epoch_ = 0;
}

void PlugQueue::ReleaseAll() {
  unplug_indefinite_ = true;
  packets_to_release_ = 0;
  packets_last_epoch_ = 0;
  packets_current_epoch_ = 0;
}

bool PlugQueue::Enqueue(const SyntheticPacket& packet) {
  if (size_ == ring_.size()) return false;
  if (!unplug_indefinite_) ++packets_current_epoch_;
  ring_[(first_ + size_) % ring_.size()] = packet;
  ++size_;
  return true;
}

std::optional<SyntheticPacket> PlugQueue::Dequeue() {
  if (!unplug_indefinite_) {
    if (packets_to_release_ == 0) return std::nullopt;
    --packets_to_release_;
  }
  if (size_ == 0) {
    HAVEN_CHECK(unplug_indefinite_) << "more packets to release than were queued";
    return std::nullopt;
  }
  const SyntheticPacket packet = ring_[first_];
  first_ = (first_ + 1) % ring_.size();
  --size_;
  return packet;
}

void PlugQueue::Clear() {
  first_ = 0;
  size_ = 0;
  unplug_indefinite_ = false;
  packets_current_epoch_ = 0;
  packets_last_epoch_ = 0;
  packets_to_release_ = 0;
}

}  // namespace haven
