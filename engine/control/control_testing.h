// SPDX-License-Identifier: Apache-2.0
//
// A guest, its output, its copies and an arbiter in ordinary memory, for the tests of this folder.
#ifndef HAVEN_ENGINE_CONTROL_CONTROL_TESTING_H_
#define HAVEN_ENGINE_CONTROL_CONTROL_TESTING_H_

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/backup/memory_replica.h"
#include "engine/control/replica_factory.h"
#include "engine/membership/arbiter.h"
#include "engine/primary/domain.h"
#include "engine/primary/output_buffer.h"

namespace haven {

// Longer than anything in a test takes.
inline constexpr absl::Duration kTestPatience = absl::Seconds(60);

// Waits until `done`, looking every millisecond; false after kTestPatience.
bool WaitFor(const std::function<bool()>& done);

// Page-aligned zeroed memory.
class TestPages {
 public:
  explicit TestPages(uint64_t pages);
  const GuestMemory& memory() const { return memory_; }
  uint64_t pages() const { return memory_.page_count(); }

 private:
  struct Free {
    void operator()(void* block) const { std::free(block); }
  };
  std::unique_ptr<void, Free> block_;
  GuestMemory memory_;
};

// What a guest has done after `step` steps is a function of the step alone, so that any copy can be
// proved equal to one step: step s writes the number s into a few pages that s determines.
inline constexpr uint64_t kTestPagesPerStep = 5;
void ApplyTestStep(const GuestMemory& memory, uint64_t step, std::vector<uint64_t>* dirty);
// True if `memory` is what `step` steps make of zero pages.
bool IsTestStep(const GuestMemory& memory, uint64_t step);

// Packets are step numbers. Shared with other threads, and with a parent process where it lies in
// memory that is shared.
struct TestWire {
  std::atomic<uint64_t> sent{0};      // Newest step of which the guest has sent its packet.
  std::atomic<uint64_t> released{0};  // Newest step whose packet has left.
};

// Guest, its suspension and its output in one: belongs to the epoch thread. It makes one step each
// time it is resumed or looked at while it runs, and sends one packet per step.
class TestGuest final : public Domain, public SuspendMethod, public OutputBuffer {
 public:
  // `name` also makes its uuid. `wire` outlives the guest.
  TestGuest(std::string name, uint64_t pages, TestWire& wire);

  uint64_t step() const { return step_; }
  // From now on it has other memory than memory() says. Any thread.
  void ChangeMemory() { changed_ = true; }
  // A NIC is plugged into it: it has other devices from now on. Any thread.
  void PlugNic() { plugged_ = true; }
  // Somebody tampers with its output buffer, and lets it go on when it has been captured for the
  // sake of that. Any thread.
  void BreakOutput() { broken_ = true; }
  // How often its dirty log was fetched and cleared. Any thread.
  uint64_t fetches() const { return fetches_; }

  // Domain.
  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return pages_.memory(); }
  absl::Status EnableLogDirty() override;
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override;
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override;
  absl::StatusOr<uint64_t> CountDirty() override;
  void DisableLogDirty() override { logging_ = false; }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override;
  size_t max_state_bytes() const override { return sizeof(uint64_t); }
  DomainEnd End() override;
  absl::Status CheckMemory() override;
  absl::Status CheckDevices() override;
  absl::Status Destroy() override { return absl::OkStatus(); }

  // SuspendMethod.
  absl::Status Request() override;
  SuspendMethod::State Poll() override;
  absl::Status Resume() override;
  int event_fd() const override { return -1; }

  // OutputBuffer. Its first Hold comes after Prepare, and it stands when it is rebuilt (checked).
  absl::Status Prepare() override;
  absl::Status Hold() override;
  absl::Status Barrier() override;
  absl::Status ReleaseOne() override;
  absl::Status OpenAll() override;
  absl::Status Rebuild() override;
  absl::Status Discard() override { return absl::OkStatus(); }
  absl::Status Remove() override { return absl::OkStatus(); }
  OutputStats stats() override;
  absl::Status Health() override;

 private:
  void Step();
  void Release(size_t packets);

  DomainInfo info_;
  TestPages pages_;
  TestWire& wire_;
  std::vector<uint64_t> dirty_;
  uint64_t step_ = 0;
  std::atomic<bool> changed_{false};
  std::atomic<bool> plugged_{false};
  std::atomic<bool> broken_{false};
  std::atomic<uint64_t> fetches_{0};
  bool running_ = true;
  bool logging_ = false;
  bool prepared_ = false;
  bool holding_ = false;
  std::deque<uint64_t> held_;
  std::optional<size_t> mark_;  // Packets of the finished epoch.
  uint64_t released_ = 0;
};

// Builds MemoryReplicas and remembers the newest one.
class TestReplicaFactory final : public ReplicaFactory {
 public:
  absl::StatusOr<std::unique_ptr<ReplicaDomain>> Build(const HelloDomain& domain) override;

  // What the next Build returns instead; OK: it builds.
  void set_result(absl::Status result);
  // What Run says of copies that are built from now on; OK: they run.
  void set_run_result(absl::Status result);

 private:
  std::mutex mutex_;
  absl::Status result_;
  absl::Status run_result_;
};

// The step of a promoted copy's state.
uint64_t PromotedStep(const ReplicaDomain& replica);

// A register per group in this process. Thread-safe.
class TestArbiter final : public Arbiter {
 public:
  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override;
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override;
  std::string Describe() const override { return "test arbiter"; }

  // Nobody gets an answer while set.
  void set_silent(bool silent) { silent_ = silent; }
  std::optional<Register> value(const std::string& group);

 private:
  std::atomic<bool> silent_{false};
  std::mutex mutex_;
  std::map<std::string, Register> registers_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_CONTROL_TESTING_H_
