// SPDX-License-Identifier: Apache-2.0
//
// Which fault has met which state of the protocol (the states are those of docs/ARCHITECTURE.md).
#ifndef HAVEN_TESTS_SIM_SIM_COVERAGE_H_
#define HAVEN_TESTS_SIM_SIM_COVERAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/backup/backup.h"
#include "engine/primary/primary.h"
#include "tests/sim/sim_faults.h"

namespace haven {

// What a guard does when it has no engine.
enum class SimGuardState : uint8_t {
  kClaiming,    // Recovery::State.
  kPaused,      // Claiming, without an answer for long: the guests stand still.
  kDeposed,     // Recovery::State.
  kDestroying,  // Recovery::State.
  kOpening,     // Solo is granted: the output is being opened, then an engine started.
  kEnding,      // `none` is granted: the buffer is being taken away.
  kAbsent,      // The host has a record, and no guard.
  kCount,
};

// A state that one of the machines is in: of the primary its role and its phase, of the backup, of
// the guard. Numbered through.
using ProtocolState = uint8_t;
inline constexpr ProtocolState kSimRoles = static_cast<ProtocolState>(Primary::Role::kEnded) + 1;
inline constexpr ProtocolState kSimPhases =
    static_cast<ProtocolState>(Primary::Phase::kRebuilding) + 1;
inline constexpr ProtocolState kSimBackups = static_cast<ProtocolState>(Backup::State::kEnded) + 1;
inline constexpr ProtocolState kSimGuards = static_cast<ProtocolState>(SimGuardState::kCount);
inline constexpr ProtocolState kProtocolStates = kSimRoles + kSimPhases + kSimBackups + kSimGuards;

constexpr ProtocolState StateOf(Primary::Role role) { return static_cast<ProtocolState>(role); }
constexpr ProtocolState StateOf(Primary::Phase phase) {
  return static_cast<ProtocolState>(kSimRoles + static_cast<ProtocolState>(phase));
}
constexpr ProtocolState StateOf(Backup::State state) {
  return static_cast<ProtocolState>(kSimRoles + kSimPhases + static_cast<ProtocolState>(state));
}
constexpr ProtocolState StateOf(SimGuardState state) {
  return static_cast<ProtocolState>(kSimRoles + kSimPhases + kSimBackups +
                                    static_cast<ProtocolState>(state));
}
const char* ProtocolStateName(ProtocolState state);

// A set of states; the world is in several at once.
using ProtocolStates = uint64_t;
static_assert(kProtocolStates <= 64);
template <typename... States>
constexpr ProtocolStates SetOf(States... states) {
  return (ProtocolStates{0} | ... | (ProtocolStates{1} << StateOf(states)));
}

class SimCoverage {
 public:
  void Count(SimFault fault, ProtocolStates states);
  void Add(const SimCoverage& other);
  uint64_t count(SimFault fault, ProtocolState state) const {
    return counts_[static_cast<size_t>(fault)][state];
  }

  // Four tables, a line for each fault. A pair that need not be met and was not shows as a dash.
  void Print() const;
  // One line for each pair that should have been met and was not.
  std::vector<std::string> Gaps() const;

 private:
  std::array<std::array<uint64_t, kProtocolStates>, kSimFaults> counts_{};
};

// Why a run of any length may be without this pair; null: it must not be.
const char* WhyNotMet(SimFault fault, ProtocolState state);

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_COVERAGE_H_
