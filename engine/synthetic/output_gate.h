// SPDX-License-Identifier: Apache-2.0
//
// The NIC of a synthetic guest, and the buffer in front of the world.
#ifndef HAVEN_ENGINE_SYNTHETIC_OUTPUT_GATE_H_
#define HAVEN_ENGINE_SYNTHETIC_OUTPUT_GATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "engine/primary/output_buffer.h"
#include "engine/synthetic/packet_log.h"
#include "engine/synthetic/plug_queue.h"
#include "engine/synthetic/spec.h"

namespace haven {

enum class GateMode : uint8_t {
  kAbsent = 0,     // No buffer: packets leave at once. The state of a new guest.
  kHolding = 1,    // Packets wait.
  kOpen = 2,       // There is a buffer and it passes everything.
  kDiscarded = 3,  // The NIC is gone: packets are dropped, for good.
};

// Numbers the packets of all vCPUs and carries out OutputBuffer's commands on them, with the device
// behind the queue infinitely fast: what may leave has left when a call returns. It lives in the
// guest's process, so that it goes on when the engine dies. Thread-safe.
class OutputGate {
 public:
  // `pid` and `generation` go into the packets.
  OutputGate(const SyntheticSpec& spec, std::unique_ptr<PacketSink> sink, uint32_t pid);

  // Sends one packet of `vcpu`, which has carried out `writes` writes.
  void Emit(uint32_t vcpu, uint64_t writes);

  // The commands of OutputBuffer. FailedPrecondition: not possible in this mode, with the reason.
  absl::Status Hold();
  absl::Status Barrier();
  absl::Status ReleaseOne();
  absl::Status OpenAll();
  // What is held leaves: it belongs to a committed state.
  absl::Status Rebuild();
  absl::Status Discard();
  absl::Status Remove();

  // A fault: the buffer vanishes and what it held leaves, as when somebody deletes a qdisc.
  void Lose();

  GateMode mode() const;
  OutputStats stats() const;

  // Number that the next packet will have. Never waits.
  uint64_t next_sequence() const { return next_sequence_.load(); }

  // Goes on with the numbers of another incarnation.
  void Continue(uint32_t generation, uint64_t next_sequence);

 private:
  // FailedPrecondition unless there is a buffer. `mutex_` is held.
  absl::Status CheckInstalled(const char* command) const;
  // Sends what may leave. `mutex_` is held.
  void Drain();
  void SendBatch();

  const std::string name_;
  const uint32_t pid_;
  mutable std::mutex mutex_;
  std::unique_ptr<PacketSink> sink_;
  PlugQueue queue_;
  std::vector<SyntheticPacket> batch_;
  GateMode mode_ = GateMode::kAbsent;
  uint32_t generation_ = 1;
  // Written under the lock; read without, because a guest that stops must not wait for the disk.
  std::atomic<uint64_t> next_sequence_{1};
  uint64_t released_packets_ = 0;
  uint64_t dropped_packets_ = 0;
};

// "absent", "holding", "open" or "discarded".
const char* GateModeName(GateMode mode);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_OUTPUT_GATE_H_
