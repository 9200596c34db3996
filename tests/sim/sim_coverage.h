// SPDX-License-Identifier: Apache-2.0
//
// Which fault has met which state of the protocol (the states are those of docs/ARCHITECTURE.md).
#ifndef HAVEN_TESTS_SIM_SIM_COVERAGE_H_
#define HAVEN_TESTS_SIM_SIM_COVERAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
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

// Those of the backup.
inline constexpr ProtocolStates kSessionStates = ((ProtocolStates{1} << kSimBackups) - 1)
                                                 << (kSimRoles + kSimPhases);

class SimCoverage {
 public:
  void Count(SimFault fault, ProtocolStates states);
  // Something was reported: a path through the protocol that no fault and no state shows by itself.
  void Tell(const std::string& what) { ++told_[what]; }
  void Add(const SimCoverage& other);
  uint64_t count(SimFault fault, ProtocolState state) const {
    return counts_[static_cast<size_t>(fault)][state];
  }

  // Four tables, a line for each fault, with a dash where the two can not meet; then what was told.
  void Print() const;
  // One line for each pair and report that should have been met and was not.
  std::vector<std::string> Gaps() const;
  // One line for each pair that was met although a rule says that it can not be.
  std::vector<std::string> Surprises() const;

 private:
  std::array<std::array<uint64_t, kProtocolStates>, kSimFaults> counts_{};
  std::map<std::string, uint64_t> told_;
};

// sim_reach.cc.
struct SimPair {
  SimFault fault;
  ProtocolState state;
};
// Why the two can not meet; null: they can, and a long run must show it.
const char* WhyNever(SimFault fault, ProtocolState state);
// Whether a run of any length may be with or without it.
bool MetSeldom(SimFault fault, ProtocolState state);
// All pairs that can meet, by state: what ambushes are made of.
const std::vector<SimPair>& PairsToMeet();
// Reports that a long run must have heard.
const std::vector<std::string>& ReportsToHear();

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_COVERAGE_H_
