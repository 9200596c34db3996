// SPDX-License-Identifier: Apache-2.0
//
// A primary's engine and a backup's session in two processes over shared memory, for benchmarks.
#ifndef HAVEN_BENCH_BENCH_PAIR_H_
#define HAVEN_BENCH_BENCH_PAIR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/bench_guest.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/engine_loop.h"
#include "engine/control/session_loop.h"
#include "engine/primary/output_buffer.h"
#include "transport/shm/shm_transport.h"

namespace haven {

// What is replicated, and where the two find each other.
struct PairShape {
  uint64_t guest_pages = 0;
  uint64_t dirty_pages = 0;  // In each epoch, the same ones.
  // One page of so many is dirty, from the guest's first page on; 0: as far apart as the guest
  // allows. The nearer they lie, the fewer page tables are read to reach them.
  uint64_t one_of = 0;
  unsigned copy_workers = 1;
  CodecStageOptions codec = {};
  int64_t interval_ns = 1 * kNsPerMs;  // Start of an epoch to the start of the next, at least.
};

// Looks every `look_ns` until `done`; a checked failure after two minutes. The less often it looks,
// the less it competes with what is measured.
void Await(const char* what, int64_t look_ns, const std::function<bool()>& done);

// A guest that stops and runs on at once and dirties its pages whenever it is stopped, with an
// output that nobody sends to: what is measured is the engine's own work.
class BenchPorts : public BenchGuest, public SuspendMethod, public OutputBuffer {
 public:
  explicit BenchPorts(const PairShape& shape);

  const DomainInfo& info() const override { return info_; }
  absl::Status EnableLogDirty() override;

  absl::Status Request() override;
  SuspendMethod::State Poll() override;
  absl::Status Resume() override;
  int event_fd() const override { return -1; }

  // From here on every pause is kept, as the guest sees it: asked to stop until told to run.
  void RecordPauses() { recording_.store(true, std::memory_order_relaxed); }
  // Not before the engine has stopped.
  std::vector<int64_t> TakePauses() { return std::move(pauses_); }

  absl::Status Hold() override { return absl::OkStatus(); }
  absl::Status Barrier() override { return absl::OkStatus(); }
  absl::Status ReleaseOne() override { return absl::OkStatus(); }
  absl::Status OpenAll() override { return absl::OkStatus(); }
  absl::Status Rebuild() override { return absl::OkStatus(); }
  absl::Status Discard() override { return absl::OkStatus(); }
  absl::Status Remove() override { return absl::OkStatus(); }
  OutputStats stats() override { return {}; }
  absl::Status Health() override { return absl::OkStatus(); }

 private:
  DomainInfo info_;
  bool stopped_ = false;
  int64_t stopped_at_ns_ = 0;
  std::atomic<bool> recording_{false};
  std::vector<int64_t> pauses_;  // Never more than there is room for.
};

// The files that both sides share: socket, arbiter. Make it before forking.
class PairPlace {
 public:
  PairPlace();
  std::string address() const;
  std::shared_ptr<Arbiter> arbiter() const;
  // What the backup writes about itself.
  StatusPaths backup_paths() const;
  // When the backup's newest event with `cause` happened, on the wall clock in ns. Checked: there
  // is one.
  int64_t EventNs(const std::string& cause) const;

 private:
  ShortFolder folder_;
};

// Builds the engine over `ports`. Checked.
std::unique_ptr<EngineLoop> MakeEngine(const PairPlace& place, const PairShape& shape,
                                       BenchPorts& ports, Transport& transport);

// Waits for the primary on a listening address and builds its session; a checked failure after a
// minute. Committed epochs wait for `apply_delay_ns` before they are applied, but not after the
// cut-off of a promotion.
std::unique_ptr<SessionLoop> MakeSession(const PairPlace& place, Listener& listener,
                                         Transport& transport, ReplicaFactory& factory,
                                         int64_t apply_delay_ns = 0);

// Copies in ordinary memory.
class BenchReplicaFactory final : public ReplicaFactory {
 public:
  absl::StatusOr<std::unique_ptr<ReplicaDomain>> Build(const HelloDomain& domain) override;
};

}  // namespace haven

#endif  // HAVEN_BENCH_BENCH_PAIR_H_
