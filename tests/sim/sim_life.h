// SPDX-License-Identifier: Apache-2.0
//
// The life of a simulated process: it may end at any of its events, also in the middle of a turn.
#ifndef HAVEN_TESTS_SIM_SIM_LIFE_H_
#define HAVEN_TESTS_SIM_SIM_LIFE_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace haven {

enum class SimProcess : uint8_t { kEngine, kGuard, kSession, kListener, kCount };
inline constexpr size_t kSimProcesses = static_cast<size_t>(SimProcess::kCount);

// Everything that a process does to the world goes through here first. The code of a process that
// was killed runs on to the end of its turn, as code can not be stopped from outside in one thread,
// and from Kill() on nothing of what it does has an effect.
class SimLife {
 public:
  // `event`: told of every event; may kill the process.
  SimLife(SimProcess kind, int host, const std::function<void(SimProcess, int)>& event)
      : kind_(kind), host_(host), event_(event) {}

  // Before an effect. False: the process is dead.
  bool Acts() {
    if (!dead_) event_(kind_, host_);
    return !dead_;
  }
  bool dead() const { return dead_; }
  void Kill() { dead_ = true; }

 private:
  const SimProcess kind_;
  const int host_;
  const std::function<void(SimProcess, int)> event_;
  bool dead_ = false;
};

// What the dead process gets for an answer.
inline absl::Status SimDead() { return absl::UnavailableError("simulated: the process is dead"); }

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_LIFE_H_
