// SPDX-License-Identifier: Apache-2.0
//
// The held output of a simulated group.
#ifndef HAVEN_TESTS_SIM_SIM_OUTPUT_H_
#define HAVEN_TESTS_SIM_SIM_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "engine/primary/output_buffer.h"
#include "tests/sim/sim_checks.h"

namespace haven {

class SimGroup;

// The plug qdisc's behaviour, counters and all (facts: net/sched/sch_plug.c).
class SimOutput final : public OutputBuffer {
 public:
  // At the limit what comes is lost, as on any network.
  static constexpr size_t kHeldMax = 400;

  explicit SimOutput(SimGroup& group) : group_(group) {}
  size_t held() const { return queue_.size(); }
  void Emit(const SimPacket& packet);

  absl::Status Hold() override;
  absl::Status Barrier() override;
  absl::Status ReleaseOne() override;
  absl::Status OpenAll() override;
  absl::Status Rebuild() override;
  absl::Status Discard() override;
  absl::Status Remove() override { return OpenAll(); }
  OutputStats stats() override { return {.dropped_packets = dropped_}; }
  absl::Status Health() override;

 private:
  absl::Status MayFail();
  void Drain();
  void DrainAll();

  SimGroup& group_;
  std::deque<SimPacket> queue_;
  uint64_t dropped_ = 0;
  uint64_t current_ = 0;
  uint64_t last_ = 0;
  uint64_t to_release_ = 0;
  bool passing_ = true;
  bool broken_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_OUTPUT_H_
