// SPDX-License-Identifier: Apache-2.0
//
// Pairs of a fault and a state that can not be met, and why.
#include "tests/sim/sim_coverage.h"

namespace haven {

namespace {

struct Never {
  SimFault fault;
  ProtocolStates states;
  const char* reason;
};

constexpr Never kNever_[] = {
    {SimFault::kCount, 0, ""},
};

}  // namespace

const char* WhyNeverMet(SimFault fault, ProtocolState state) {
  for (const Never& never : kNever_) {
    if (never.fault == fault && (never.states >> state & 1) != 0) return never.reason;
  }
  return nullptr;
}

}  // namespace haven
