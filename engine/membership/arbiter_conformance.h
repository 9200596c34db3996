// SPDX-License-Identifier: Apache-2.0
//
// What every arbiter must do, as checks that run against any: from the tests of each implementation
// and from the tool that operators run against their own (arbiter_conformance_main.cc).
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_CONFORMANCE_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_CONFORMANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter.h"

namespace haven {

struct ConformanceTarget {
  // Opens the arbiter under test anew; never null. Called from several threads.
  std::function<std::unique_ptr<Arbiter>()> open;
  // The same arbiter for another process: `racer_program` "race" `spec` GROUP OWNER ROUNDS SECONDS
  // must print FormatRaceResult's line. The tool's own program does.
  std::string spec;
  std::string racer_program;
  // Starts the name of every group that is used; must be new for each run, at most 40 bytes. The
  // arbiters' interface has no way to remove a register: they stay.
  std::string group_prefix;
  // For each call. The races take at most ten times as long, the other checks a few calls.
  absl::Duration timeout = absl::Seconds(10);
  // Changes that the racing threads, and the racing processes, share.
  uint64_t race_rounds = 60;
  // A granted value may be replaced by the next one before its asker hears of it, and is then
  // rightly answered by a denial: `manual`, where the operator's approval makes the change.
  bool grants_come_late = false;
};

struct ConformanceCheck {
  const char* name;     // Words joined by '-'.
  const char* meaning;  // What an arbiter does that passes it.
  absl::Status (*run)(const ConformanceTarget& target);
};

// All checks, in the order in which they are best read: the first failure explains the next ones.
// Each is on its own.
std::span<const ConformanceCheck> ArbiterConformanceChecks();

// The terms that one contender was granted, in a race from term 0 of `group`'s register to term
// `rounds`, and how many answers were unknown. A race is fair when no term is granted twice.
struct RaceResult {
  std::vector<Term> granted;
  uint64_t unknown_answers = 0;
};

// Contends until the register's term is `rounds`; creates the register if there is none.
// DeadlineExceeded: it was not reached in `limit`.
absl::StatusOr<RaceResult> RunRace(Arbiter& arbiter, const std::string& group,
                                   const std::string& owner, uint64_t rounds,
                                   absl::Duration timeout, absl::Duration limit);

// "unknown=0 granted=1,4,5"; without a newline. InvalidArgument: not of that form.
std::string FormatRaceResult(const RaceResult& result);
absl::StatusOr<RaceResult> ParseRaceResult(const std::string& text);

// Internal names the term that was granted twice, or to nobody although no answer was unknown and
// grants do not come late.
absl::Status CheckRace(std::span<const RaceResult> contenders, uint64_t rounds,
                       bool grants_come_late);

// A random request id, from the kernel.
RequestId RandomRequestId();

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_CONFORMANCE_H_
