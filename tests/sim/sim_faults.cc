// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_faults.h"

#include <cstddef>
#include <iterator>

namespace haven {

const char* SimFaultName(SimFault fault) {
  static constexpr const char* kNames[] = {
      "engine-crash",
      "engine-hang",
      "guard-crash",
      "session-crash",
      "session-hang",
      "host-crash",
      "partition",
      "one-way-out",
      "one-way-back",
      "flap",
      "channel-lost",
      "beats-only",
      "data-only",
      "rail-fails",
      "arbiter-cut-primary",
      "arbiter-cut-backup",
      "arbiter-loses-answers",
      "arbiter-denies",
      "ghost-writes",
      "torn-writes",
      "corrupt-writes",
      "slow-peer",
      "clock-jump",
      "fetch-fails",
      "log-lost",
      "suspend-ignored",
      "capture-fails",
      "output-fails",
      "revoke-fails",
      "promotion-fails",
      "run-fails-once",
      "run-answer-lost",
      "guest-shutdown",
      "guest-crash",
      "guest-vanish",
      "burst",
      "handover",
      "operator-promote",
      "unprotect",
  };
  static_assert(std::size(kNames) == static_cast<size_t>(SimFault::kCount));
  return kNames[static_cast<size_t>(fault)];
}

}  // namespace haven
