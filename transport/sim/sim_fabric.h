// SPDX-License-Identifier: Apache-2.0
//
// One-sided memory access in the simulation, with everything that real queue pairs do when they
// fail.
#ifndef HAVEN_TRANSPORT_SIM_SIM_FABRIC_H_
#define HAVEN_TRANSPORT_SIM_SIM_FABRIC_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "transport/fabric.h"
#include "transport/sim/sim_network.h"

namespace haven {

// All registered memory of the simulated world, found by key. A process that dies takes its memory
// with it; a write that arrives later hits nothing.
class SimMemory {
 public:
  uint64_t Add(std::span<std::byte> bytes) {
    regions_[next_key_] = bytes;
    return next_key_++;
  }
  void Remove(uint64_t key) { regions_.erase(key); }
  // Writes what fits; false if there is no such place.
  bool Write(uint64_t key, uint64_t offset, std::span<const std::byte> bytes);

 private:
  std::map<uint64_t, std::span<std::byte>> regions_;
  uint64_t next_key_ = 1;
};

// The registered memory of one simulated process.
class SimFabric final : public Fabric {
 public:
  // `acts`: called before anything is posted on a link for data; false: the process is dead.
  SimFabric(SimMemory& memory, std::function<bool()> acts)
      : memory_(memory), acts_(std::move(acts)) {}
  ~SimFabric() override;

  absl::StatusOr<LocalRegion> Register(uint64_t bytes, RegionAccess access) override;
  absl::StatusOr<RemoteRegion> Export(const LocalRegion& region) const override;
  uint32_t max_write_bytes() const override { return 1 << 20; }

  std::span<std::byte> bytes(uint32_t region) const;
  bool Acts() const { return acts_(); }

 private:
  struct Region {
    std::vector<std::byte> storage;
    std::span<std::byte> bytes;
    uint64_t key = 0;
  };
  SimMemory& memory_;
  const std::function<bool()> acts_;
  std::vector<std::unique_ptr<Region>> regions_;
};

// The two ends of one queue pair connection.
class SimLink final : public Link {
 public:
  // `wake` is called when Poll() has something new. The fabric outlives the link.
  SimLink(SimNetwork& network, SimMemory& memory, SimFabric& fabric, int host, SimPath path,
          std::function<void()> wake)
      : network_(network),
        memory_(memory),
        fabric_(fabric),
        host_(host),
        path_(path),
        wake_(std::move(wake)) {}
  // Destroys this end: nothing that the other end sent lands any more.
  ~SimLink() override;

  // Joins two ends. The ends may be destroyed in any order.
  static void Join(const std::shared_ptr<SimLink>& a, const std::shared_ptr<SimLink>& b);

  // Destroys this end now; posted writes may still be on the wire.
  void Destroy();

  // The queue pair fails by itself, as with a port that goes down: whatever was posted is in doubt.
  void Break();

  absl::Status PostWrites(std::span<const WriteRequest> requests) override;
  absl::Status PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                        RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) override;
  absl::Status PostReceives(uint32_t count) override;
  size_t Poll(std::span<Completion> out) override;
  int event_fd() const override { return -1; }
  absl::Status ArmEvent() override { return absl::OkStatus(); }
  absl::Status Revoke() override;

 private:
  static constexpr size_t kQueueDepth = 128;
  static constexpr int64_t kRetryNs = 40 * kNsPerMs;

  void Schedule(int64_t when_ns);
  void DeliverNext();
  bool DeliverPart(const WriteRequest& request);
  bool Land(const WriteRequest& request);
  void Fail(CompletionResult result);
  void LeaveGhost(const WriteRequest& request);
  void Complete(const Completion& completion);

  SimNetwork& network_;
  SimMemory& memory_;
  SimFabric& fabric_;
  const int host_;
  const SimPath path_;
  std::function<void()> wake_;
  std::weak_ptr<SimLink> self_;
  std::weak_ptr<SimLink> peer_;

  std::deque<WriteRequest> queue_;
  bool delivering_ = false;
  bool part_landed_ = false;  // Of the head of the queue.
  int64_t stalled_since_ns_ = -1;
  std::deque<Completion> completions_;
  uint32_t receives_ = 0;
  bool failed_ = false;
  bool destroyed_ = false;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SIM_SIM_FABRIC_H_
