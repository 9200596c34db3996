// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_faults.h"

#include <iterator>

namespace haven {

const char* SimFaultName(SimFault fault) {
  static constexpr const char* kNames[] = {
      "engine-crash",
      "engine-hang",
      "guard-crash",
      "guard-hang",
      "session-crash",
      "session-hang",
      "listener-crash",
      "primary-host-crash",
      "backup-host-crash",
      "channel-lost",
      "rail-fails",
      "old-ack",
      "clock-jump",
      "guest-shutdown",
      "guest-crash",
      "guest-vanish",
      "burst",
      "handover",
      "operator-promote",
      "unprotect",
      "partition",
      "one-way-out",
      "one-way-back",
      "flap",
      "beats-only",
      "data-only",
      "arbiter-cut-primary",
      "arbiter-cut-backup",
      "slow-peer",
      "apply-stall",
      "lost-write",
      "late-write",
      "partial-write",
      "torn-write",
      "ghost-write",
      "corrupt-write",
      "arbiter-loses-request",
      "arbiter-loses-answer",
      "arbiter-denies",
      "revoke-fails",
      "fetch-fails",
      "log-lost",
      "suspend-ignored",
      "capture-fails",
      "output-fails",
      "prepare-fails",
      "run-fails",
      "run-answer-lost",
      "abandon-fails",
      "record-fails",
      "false-proof",
      "suspend-aborted",
      "journal-full",
  };
  static_assert(std::size(kNames) == kSimFaults);
  return kNames[static_cast<size_t>(fault)];
}

}  // namespace haven
