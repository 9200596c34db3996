// SPDX-License-Identifier: Apache-2.0
//
// A ReplicaDomain in ordinary memory, for tests, simulation and benchmarks.
#ifndef HAVEN_ENGINE_BACKUP_MEMORY_REPLICA_H_
#define HAVEN_ENGINE_BACKUP_MEMORY_REPLICA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backup/replica_domain.h"
#include "engine/replica/guest_memory.h"
#include "engine/replica/identity.h"

namespace haven {

// A copy that keeps its promises and remembers what was asked of it. Not thread-safe but for
// memory().
class MemoryReplica final : public ReplicaDomain {
 public:
  struct Options {
    uint64_t pages = 0;  // 1 .. kMaxDomainPages.
    // Frames that are not RAM: [first, second) each, within `pages`. They exist in the mapping, so
    // that a test can see that nobody wrote them.
    std::vector<std::pair<Gfn, Gfn>> special = {};
    uint32_t min_state_bytes = 1;  // Sizes that CheckState() takes.
    uint32_t max_state_bytes = 4096;
    bool prefault = false;  // Touch every page now, as a mapped guest is; else at its first use.
  };

  enum class Phase : uint8_t { kWaiting, kPrepared, kRunning, kAbandoned };

  // InvalidArgument naming the field; ResourceExhausted: no such memory.
  static absl::StatusOr<std::unique_ptr<MemoryReplica>> Create(Options options);

  ~MemoryReplica() override;
  MemoryReplica(const MemoryReplica&) = delete;
  MemoryReplica& operator=(const MemoryReplica&) = delete;

  const GuestMemory& memory() const override { return memory_; }
  absl::Status CheckState(std::span<const std::byte> state) const override;
  absl::Status Prepare(std::span<const std::byte> state) override;
  absl::Status Outlive() override;
  absl::Status Run() override;
  absl::Status Abandon() override;

  Phase phase() const { return phase_; }
  // The state given to Prepare().
  std::span<const std::byte> prepared_state() const { return prepared_state_; }
  // All pages, special ones included.
  std::span<const std::byte> bytes() const { return {base_, byte_count_}; }

  // What the next calls return instead of doing anything, until set to OK again.
  void set_prepare_result(absl::Status result) { prepare_result_ = std::move(result); }
  void set_run_result(absl::Status result) { run_result_ = std::move(result); }

 private:
  MemoryReplica(const Options& options, std::byte* base);

  std::byte* base_;
  size_t byte_count_;
  uint32_t min_state_bytes_;
  uint32_t max_state_bytes_;
  GuestMemory memory_;
  Phase phase_ = Phase::kWaiting;
  std::vector<std::byte> prepared_state_;
  absl::Status prepare_result_;
  absl::Status run_result_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_MEMORY_REPLICA_H_
