// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_LINK_LANE_H_
#define HAVEN_TRANSPORT_SHM_LINK_LANE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace haven {

// Most immediates that may be outstanding in one direction of a link; a power of two.
inline constexpr uint32_t kMaxReceives = 1024;

// One direction of a link, in memory that both processes map: a ring of immediates with one sender
// and one receiver. The receiver never posts more receives than the ring has slots, so a sender
// that keeps to the posted number can not overrun it.
//
// Either side may find anything here if the other one lies. So each keeps its own counters
// privately and takes from this memory only what the other side alone knows, after a check.
struct LinkLane {
  static constexpr size_t kCacheLine = 64;

  alignas(kCacheLine) std::atomic<uint64_t> sent;    // By the sender: immediates so far.
  alignas(kCacheLine) std::atomic<uint64_t> posted;  // By the receiver: receives so far.
  // Set by the receiver before it sleeps, cleared by the sender that wakes it.
  alignas(kCacheLine) std::atomic<uint32_t> armed;
  // Set by the sender for good: it has given the link up.
  alignas(kCacheLine) std::atomic<uint32_t> closed;
  alignas(kCacheLine) std::array<std::atomic<uint32_t>, kMaxReceives> immediates;
};

// All of a link's shared memory. Fresh memory, all zero, is a link that nobody has used.
struct LinkMemory {
  // [0] from the side that prepared the link to the side that connects, [1] the other way.
  std::array<LinkLane, 2> lanes;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<uint32_t>::is_always_lock_free);
static_assert((kMaxReceives & (kMaxReceives - 1)) == 0);

// The sender's side of a lane. One thread.
class LaneSender {
 public:
  enum class Result : uint8_t {
    kSent,       // The receiver is awake and will look.
    kSentWake,   // The receiver sleeps: wake it.
    kNoReceive,  // It has posted no receive for this one.
    kCorrupt,    // What it says it has posted is impossible.
  };

  explicit LaneSender(LinkLane& lane) : lane_(lane) {}

  // Everything this thread wrote before is visible to the receiver that takes the immediate.
  Result Send(uint32_t immediate) {
    const uint64_t credits = lane_.posted.load(std::memory_order_acquire) - sent_;
    if (credits == 0) return Result::kNoReceive;
    if (credits > kMaxReceives) return Result::kCorrupt;
    lane_.immediates[sent_ % kMaxReceives].store(immediate, std::memory_order_relaxed);
    ++sent_;
    // Sequentially consistent on both sides: the receiver sets `armed` and then reads `sent`, this
    // side sets `sent` and then reads `armed`, so at least one of them sees the other.
    lane_.sent.store(sent_, std::memory_order_seq_cst);
    if (lane_.armed.load(std::memory_order_seq_cst) == 0) return Result::kSent;
    lane_.armed.store(0, std::memory_order_relaxed);
    return Result::kSentWake;
  }

  void Close() { lane_.closed.store(1, std::memory_order_release); }

 private:
  LinkLane& lane_;
  uint64_t sent_ = 0;
};

// The receiver's side of a lane. One thread.
class LaneReceiver {
 public:
  enum class Result : uint8_t {
    kTaken,
    kEmpty,
    kCorrupt,  // What the sender says it has sent is impossible.
  };

  explicit LaneReceiver(LinkLane& lane) : lane_(lane) {}

  // False: the ring has no room for so many.
  bool PostReceives(uint32_t count) {
    if (count > kMaxReceives - (posted_ - taken_)) return false;
    posted_ += count;
    lane_.posted.store(posted_, std::memory_order_release);
    return true;
  }

  Result Take(uint32_t& immediate) {
    const uint64_t waiting = lane_.sent.load(std::memory_order_seq_cst) - taken_;
    if (waiting == 0) return Result::kEmpty;
    if (waiting > posted_ - taken_) return Result::kCorrupt;
    immediate = lane_.immediates[taken_ % kMaxReceives].load(std::memory_order_relaxed);
    ++taken_;
    return Result::kTaken;
  }

  // From now on the sender asks for a wake-up with its next immediate. Take() once more after it.
  void Arm() { lane_.armed.store(1, std::memory_order_seq_cst); }

  // True once the sender has given the link up; what it sent before is there to be taken.
  bool SenderClosed() const { return lane_.closed.load(std::memory_order_acquire) != 0; }

 private:
  LinkLane& lane_;
  uint64_t posted_ = 0;
  uint64_t taken_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_LINK_LANE_H_
