// SPDX-License-Identifier: Apache-2.0
//
// The simulated cable between hosts: delays, cuts in one direction or both, and what a failed write
// leaves behind.
#ifndef HAVEN_TRANSPORT_SIM_SIM_NETWORK_H_
#define HAVEN_TRANSPORT_SIM_SIM_NETWORK_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/random.h"
#include "transport/sim/scheduler.h"
#include "transport/sim/sim_chances.h"

namespace haven {

// Hosts are numbered from 0. The simulation's two engines' hosts and the arbiter.
inline constexpr int kSimHosts = 3;

// What may go wrong at each opportunity.
enum class SimWireFault : uint8_t {
  kLostWrite,     // The queue pair fails, and nothing of the write has landed.
  kLateWrite,     // A write takes up to 30 ms longer.
  kPartialWrite,  // The rest of a write lands up to 2 ms after its beginning.
  kTornWrite,     // A write that failed has landed in part.
  kGhostWrite,    // A write that failed lands later, unless the other end is destroyed.
  kCorruptWrite,  // A bit of a delivered write flips.
  kLostRequest,   // The request to the arbiter is lost.
  kLostAnswer,    // The arbiter's answer is lost.
  kDenied,        // The arbiter says no although nothing stands against the request.
  kRevokeFails,   // A link can not be proved to be cut off.
  kCount,
};

// The ways between the two engines' hosts, which may fail one by one.
enum class SimPath : uint8_t { kChannel, kData, kBeats };
inline constexpr size_t kSimPaths = 3;

class SimNetwork {
 public:
  SimNetwork(Scheduler& scheduler, Random& random)
      : scheduler_(scheduler), random_(random), chances_(random) {
    for (auto& row : cut_until_ns_) row.fill(0);
    path_cut_until_ns_.fill(0);
  }

  Scheduler& scheduler() { return scheduler_; }
  Random& random() { return random_; }
  SimChances<SimWireFault>& chances() { return chances_; }

  bool Up(int from, int to) const { return scheduler_.now_ns() >= cut_until_ns_[from][to]; }

  void Cut(int from, int to, int64_t until_ns) {
    if (until_ns > cut_until_ns_[from][to]) cut_until_ns_[from][to] = until_ns;
  }
  // The same between the two engines' hosts, for what goes this way.
  bool Up(int from, int to, SimPath path) const {
    return Up(from, to) && scheduler_.now_ns() >= path_cut_until_ns_[static_cast<size_t>(path)];
  }
  // Cuts a way in both directions.
  void CutPath(SimPath path, int64_t until_ns) {
    int64_t& end_ns = path_cut_until_ns_[static_cast<size_t>(path)];
    if (until_ns > end_ns) end_ns = until_ns;
  }

  void Heal() {
    for (auto& row : cut_until_ns_) row.fill(0);
    path_cut_until_ns_.fill(0);
    chances_.Clear();
  }

  int64_t DelayNs() { return random_.Between(5 * kNsPerUs, 60 * kNsPerUs); }
  bool Happens(SimWireFault fault) { return chances_.Happens(fault); }

 private:
  Scheduler& scheduler_;
  Random& random_;
  SimChances<SimWireFault> chances_;
  std::array<std::array<int64_t, kSimHosts>, kSimHosts> cut_until_ns_;
  std::array<int64_t, kSimPaths> path_cut_until_ns_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SIM_SIM_NETWORK_H_
