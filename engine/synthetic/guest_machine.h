// SPDX-License-Identifier: Apache-2.0
//
// A synthetic guest without its control socket: memory, vCPUs, log-dirty, NIC.
#ifndef HAVEN_ENGINE_SYNTHETIC_GUEST_MACHINE_H_
#define HAVEN_ENGINE_SYNTHETIC_GUEST_MACHINE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/base/thread.h"
#include "engine/primary/domain.h"
#include "engine/replica/guest_memory.h"
#include "engine/synthetic/layout.h"
#include "engine/synthetic/output_gate.h"
#include "engine/synthetic/pacer.h"
#include "engine/synthetic/run_control.h"
#include "engine/synthetic/shared_memory.h"
#include "engine/synthetic/spec.h"
#include "engine/synthetic/state.h"
#include "engine/synthetic/status_page.h"

namespace haven {

// Plays the guest and, towards whoever controls it, the hypervisor. The calls are made from one
// thread; the vCPUs are threads of its own.
class GuestMachine {
 public:
  // Allocates the shared memory and opens the packet log. With `waiting` it is a copy: its memory
  // stays zero and it does not run until Load() and Resume(). Otherwise the share `fill` of the
  // memory is written and the vCPUs run when this returns. ResourceExhausted (memory, threads), or
  // the log's error.
  static absl::StatusOr<std::unique_ptr<GuestMachine>> Create(const SyntheticSpec& spec,
                                                              bool waiting);
  ~GuestMachine();
  GuestMachine(const GuestMachine&) = delete;
  GuestMachine& operator=(const GuestMachine&) = delete;

  // Descriptors for other processes: the memory (also read-only), the log-dirty bitmap (one bit a
  // frame, read and cleared by exchanging words), the status page, and an eventfd that is written
  // when a stop completes or the guest ends.
  const UniqueFd& memory_fd() const { return memory_fd_; }
  const UniqueFd& memory_read_only_fd() const { return memory_read_only_fd_; }
  const UniqueFd& bitmap_fd() const { return bitmap_fd_; }
  const UniqueFd& status_fd() const { return status_fd_; }
  const UniqueFd& event_fd() const { return event_fd_; }

  const SyntheticSpec& spec() const { return spec_; }
  OutputGate& gate() { return *gate_; }

  // Asks for a stop under a new id; the status page says when it is complete.
  void Suspend(uint64_t id);
  // Does nothing to a guest that has ended.
  void Resume();

  // Log-dirty: a page's bit is set after each write to it. Enabling clears the log: whoever copies
  // every page after that, and then what the log says, has them all. Returns the count of breaks
  // before which the log is whole, as on the status page.
  uint64_t EnableLogDirty();
  void DisableLogDirty();
  // A fault: tracking ends and the log is lost, as when another tool takes it.
  void LoseLogDirty();
  // A fault: the output buffer vanishes. Remembered on the status page until it is mended.
  void LoseGate();
  absl::Status RebuildGate();
  absl::Status RemoveGate();

  // Every vCPU is at a safe point.
  bool stopped() const { return run_->stopped(); }

  // Makes a waiting copy the guest at the instant of `state`, one generation later. With
  // spec().verify its memory is first proved equal to it, and in any case the special pages are
  // checked to be those it was built with. DataLoss: they are not; it must not run.
  absl::Status Load(const SyntheticState& state);

  // The guest stops by itself, for good. Only the first reason counts.
  void End(DomainEnd reason);
  DomainEnd end() const { return end_.load(); }

  // Writes carried out by a vCPU, as of its last slice.
  uint64_t writes(uint32_t vcpu) const { return published_writes_[vcpu].load(); }

 private:
  explicit GuestMachine(const SyntheticSpec& spec);

  absl::Status Allocate(bool waiting);
  absl::Status Fill();
  void StampSpecialPages();
  absl::Status CheckSpecialPages() const;
  std::vector<uint64_t> UnallocatedFrames() const;
  std::byte* SpecialPage(uint64_t index) const;
  void RunVcpu(uint32_t vcpu);
  void RunSlice(uint32_t vcpu, Pacer& writes, Pacer& packets);
  void MarkDirty(Gfn gfn);
  void ClearLog();
  void OnStopped(uint64_t id);
  void PublishState();
  void SignalEvent();

  const SyntheticSpec spec_;
  const SyntheticLayout layout_;
  UniqueFd memory_fd_;
  UniqueFd memory_read_only_fd_;
  UniqueFd bitmap_fd_;
  UniqueFd status_fd_;
  UniqueFd event_fd_;
  MappedMemory memory_map_;
  MappedMemory bitmap_map_;
  MappedMemory status_map_;
  GuestMemory memory_;
  std::span<uint64_t> bitmap_;
  SyntheticStatusPage* status_ = nullptr;
  std::unique_ptr<OutputGate> gate_;
  std::unique_ptr<RunControl> run_;
  std::vector<VcpuWorkload> workloads_;
  std::vector<Thread> threads_;
  // Written by vCPU threads inside a slice, read and written by the controller while stopped;
  // RunControl's lock orders the two.
  SyntheticState state_;
  std::array<std::atomic<uint64_t>, kSyntheticMaxVcpus> published_writes_{};
  std::atomic<DomainEnd> end_{DomainEnd::kNone};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_GUEST_MACHINE_H_
