// SPDX-License-Identifier: Apache-2.0
#include "transport/sim/sim_fabric.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace haven {

bool SimMemory::Write(uint64_t key, uint64_t offset, std::span<const std::byte> bytes) {
  const auto found = regions_.find(key);
  if (found == regions_.end() || offset + bytes.size() > found->second.size()) return false;
  std::memcpy(found->second.data() + offset, bytes.data(), bytes.size());
  return true;
}

SimFabric::~SimFabric() {
  for (const auto& region : regions_) memory_.Remove(region->key);
}

absl::StatusOr<LocalRegion> SimFabric::Register(uint64_t bytes, RegionAccess) {
  if (bytes == 0) return absl::InvalidArgumentError("a region of no bytes");
  auto region = std::make_unique<Region>();
  const uint64_t rounded = (bytes + 4095) / 4096 * 4096;
  region->storage.resize(rounded + 4096);
  void* start = region->storage.data();
  size_t room = region->storage.size();
  std::align(4096, rounded, start, room);
  region->bytes = {static_cast<std::byte*>(start), rounded};
  region->key = memory_.Add(region->bytes);
  regions_.push_back(std::move(region));
  return LocalRegion{static_cast<uint32_t>(regions_.size()), regions_.back()->bytes};
}

absl::StatusOr<RemoteRegion> SimFabric::Export(const LocalRegion& region) const {
  return RemoteRegion{regions_[region.id - 1]->key, 0, region.bytes.size()};
}

std::span<std::byte> SimFabric::bytes(uint32_t region) const { return regions_[region - 1]->bytes; }

void SimLink::Join(const std::shared_ptr<SimLink>& a, const std::shared_ptr<SimLink>& b) {
  a->self_ = a;
  b->self_ = b;
  a->peer_ = b;
  b->peer_ = a;
}

SimLink::~SimLink() { Destroy(); }

void SimLink::Destroy() {
  if (destroyed_) return;
  destroyed_ = true;
  failed_ = true;
  for (const WriteRequest& request : queue_) LeaveGhost(request);
  queue_.clear();
}

void SimLink::Break() {
  if (!failed_) Fail(CompletionResult::kOther);
}

absl::Status SimLink::Revoke() {
  if (!destroyed_ && network_.Happens(SimWireFault::kRevokeFails)) {
    return absl::InternalError("simulated: the queue pair can not be destroyed");
  }
  Destroy();
  return absl::OkStatus();
}

absl::Status SimLink::PostWrites(std::span<const WriteRequest> requests) {
  if (path_ == SimPath::kData && !fabric_.Acts()) {
    return absl::UnavailableError("simulated: the process is dead");
  }
  if (failed_) return absl::UnavailableError("the simulated link has failed");
  if (queue_.size() + requests.size() > kQueueDepth) {
    return absl::ResourceExhaustedError("the simulated queue is full");
  }
  for (const WriteRequest& request : requests) queue_.push_back(request);
  if (!delivering_ && !queue_.empty()) Schedule(network_.scheduler().now_ns() + network_.DelayNs());
  return absl::OkStatus();
}

absl::Status SimLink::PostRead(uint64_t, uint32_t, uint64_t, RemoteRegion, uint64_t, uint32_t) {
  return absl::UnimplementedError("the engine does not read remote memory");
}

absl::Status SimLink::PostReceives(uint32_t count) {
  if (failed_) return absl::UnavailableError("the simulated link has failed");
  receives_ += count;
  return absl::OkStatus();
}

void SimLink::Schedule(int64_t when_ns) {
  delivering_ = true;
  network_.scheduler().At(when_ns, [weak = self_] {
    const std::shared_ptr<SimLink> link = weak.lock();
    if (link == nullptr || link->destroyed_) return;
    link->delivering_ = false;
    link->DeliverNext();
  });
}

// The head of the queue goes over the wire, if there is a wire and somebody at its end.
void SimLink::DeliverNext() {
  if (failed_ || queue_.empty()) return;
  const std::shared_ptr<SimLink> peer = peer_.lock();
  const int64_t now_ns = network_.scheduler().now_ns();
  const bool reachable = peer != nullptr && !peer->failed_ &&
                         network_.Up(host_, peer->host_, path_) &&
                         network_.Up(peer->host_, host_, path_);
  if (!reachable) {
    // The way out may be open and only the acknowledgement lost: then the data lands all the same.
    if (stalled_since_ns_ < 0) stalled_since_ns_ = now_ns;
    const bool landed = peer != nullptr && !peer->failed_ && network_.Up(host_, peer->host_, path_);
    if (now_ns - stalled_since_ns_ >= kRetryNs) {
      if (landed) Land(queue_.front());
      return Fail(CompletionResult::kRetry);
    }
    return Schedule(now_ns + 4 * kNsPerMs);
  }
  stalled_since_ns_ = -1;
  const WriteRequest request = queue_.front();
  if (network_.Happens(SimWireFault::kLostWrite)) return Fail(CompletionResult::kRetry);
  if (DeliverPart(request)) return;
  if (request.has_immediate && peer->receives_ == 0) {
    Land(request);
    return Fail(CompletionResult::kOther);
  }
  if (!Land(request)) return Fail(CompletionResult::kPermission);
  queue_.pop_front();
  if (request.has_immediate) {
    --peer->receives_;
    peer->Complete({0, CompletionKind::kImmediate, CompletionResult::kOk, request.immediate});
  }
  if (request.signaled) Complete({request.id, CompletionKind::kWrite, CompletionResult::kOk, 0});
  if (queue_.empty()) return;
  int64_t next_ns = now_ns + 1 * kNsPerUs + request.bytes / 4;
  if (network_.Happens(SimWireFault::kLateWrite)) {
    next_ns += network_.random().Between(0, 30 * kNsPerMs);
  }
  Schedule(next_ns);
}

// A write is not one step: who looks meanwhile sees its beginning and what was there before.
bool SimLink::DeliverPart(const WriteRequest& request) {
  if (std::exchange(part_landed_, false)) return false;
  if (request.bytes < 2 || !network_.Happens(SimWireFault::kPartialWrite)) return false;
  WriteRequest part = request;
  part.bytes = static_cast<uint32_t>(network_.random().Between(1, request.bytes - 1));
  Land(part);
  part_landed_ = true;
  Schedule(network_.scheduler().now_ns() + network_.random().Between(1 * kNsPerUs, 2 * kNsPerMs));
  return true;
}

bool SimLink::Land(const WriteRequest& request) {
  const std::span<std::byte> source =
      fabric_.bytes(request.local_region).subspan(request.local_offset, request.bytes);
  if (!network_.Happens(SimWireFault::kCorruptWrite)) {
    return memory_.Write(request.remote.key, request.remote.base + request.remote_offset, source);
  }
  std::vector<std::byte> copy(source.begin(), source.end());
  if (!copy.empty()) {
    copy[network_.random().Below(copy.size())] ^=
        std::byte{static_cast<unsigned char>(1u << network_.random().Below(8))};
  }
  return memory_.Write(request.remote.key, request.remote.base + request.remote_offset, copy);
}

// The queue pair goes to the error state: the head has failed, the rest is flushed, and what of it
// has landed nobody knows.
void SimLink::Fail(CompletionResult result) {
  failed_ = true;
  bool first = true;
  for (const WriteRequest& request : queue_) {
    LeaveGhost(request);
    Complete({request.id, CompletionKind::kWrite, first ? result : CompletionResult::kFlushed, 0});
    first = false;
  }
  queue_.clear();
  if (wake_) wake_();
}

// A write that was given up may be on the wire still: it lands whole, in part, or much later, as
// long as the other end exists.
void SimLink::LeaveGhost(const WriteRequest& request) {
  SimChances<SimWireFault>& chances = network_.chances();
  const bool torn = chances.Drawn(SimWireFault::kTornWrite);
  if (!torn && !chances.Drawn(SimWireFault::kGhostWrite)) return;
  const std::span<std::byte> source =
      fabric_.bytes(request.local_region).subspan(request.local_offset, request.bytes);
  std::vector<std::byte> copy(source.begin(), source.end());
  if (torn) copy.resize(network_.random().Below(copy.size() + 1));
  const int64_t delay_ns = network_.random().Between(0, 300 * kNsPerMs);
  network_.scheduler().After(
      delay_ns, [peer = peer_, &memory = memory_, &chances, torn, copy = std::move(copy),
                 remote = request.remote, offset = request.remote_offset] {
        const std::shared_ptr<SimLink> end = peer.lock();
        if (end == nullptr || end->destroyed_) return;
        chances.Tell(torn ? SimWireFault::kTornWrite : SimWireFault::kGhostWrite);
        memory.Write(remote.key, remote.base + offset, copy);
      });
}

void SimLink::Complete(const Completion& completion) {
  completions_.push_back(completion);
  if (wake_) wake_();
}

size_t SimLink::Poll(std::span<Completion> out) {
  const size_t count = std::min(out.size(), completions_.size());
  std::copy_n(completions_.begin(), count, out.begin());
  completions_.erase(completions_.begin(), completions_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

}  // namespace haven
