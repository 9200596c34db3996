// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_conformance.h"

#include <cstddef>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_child.h"
#include "engine/membership/arbiter_conformance_single.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/register.h"

namespace haven {
namespace {

using conformance::GroupOf;
using conformance::Probe;

// Starts a race and lets `contend(i)` run in a thread for each contender.
absl::Status Race(const ConformanceTarget& target, absl::string_view check, size_t contenders,
                  const std::function<absl::StatusOr<RaceResult>(size_t)>& contend) {
  Register start = conformance::SomeValue();
  start.term = 0;
  HAVEN_RETURN_IF_ERROR(Probe(target, check).Grants(std::nullopt, start));
  std::vector<absl::StatusOr<RaceResult>> results(contenders, absl::UnknownError("has not run"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < contenders; ++i) {
    threads.emplace_back([&results, &contend, i] { results[i] = contend(i); });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<RaceResult> finished;
  for (absl::StatusOr<RaceResult>& result : results) {
    HAVEN_RETURN_IF_ERROR(result.status());
    finished.push_back(*std::move(result));
  }
  return CheckRace(finished, target.race_rounds, target.grants_come_late);
}

absl::Status OneThreadWins(const ConformanceTarget& target) {
  constexpr size_t kThreads = 4;
  constexpr absl::string_view kCheck = "threads";
  // Half of the threads share one object, the others have one each.
  const std::unique_ptr<Arbiter> shared = target.open();
  return Race(target, kCheck, kThreads, [&](size_t i) -> absl::StatusOr<RaceResult> {
    const std::unique_ptr<Arbiter> own = i % 2 == 0 ? nullptr : target.open();
    return RunRace(own ? *own : *shared, GroupOf(target, kCheck), absl::StrCat("thread-", i),
                   target.race_rounds, target.timeout, 10 * target.timeout);
  });
}

absl::Status OneProcessWins(const ConformanceTarget& target) {
  constexpr size_t kProcesses = 2;
  constexpr absl::string_view kCheck = "processes";
  ChildRunner runner;
  return Race(target, kCheck, kProcesses, [&](size_t i) -> absl::StatusOr<RaceResult> {
    HAVEN_ASSIGN_OR_RETURN(
        const ChildResult child,
        runner.Run({target.racer_program, "race", target.spec, GroupOf(target, kCheck),
                    absl::StrCat("process-", i), absl::StrCat(target.race_rounds),
                    absl::StrCat(absl::ToInt64Seconds(target.timeout))},
                   "", Deadline(11 * target.timeout)));
    if (child.end != ChildResult::End::kExited || child.code != 0) {
      return absl::InternalError(absl::StrCat("a racing process failed (end ",
                                              static_cast<int>(child.end), ", code ", child.code,
                                              "): ", child.diagnostics));
    }
    return ParseRaceResult(std::string(absl::StripSuffix(child.output, "\n")));
  });
}

constexpr ConformanceCheck kChecks[] = {
    {"absent-at-first", "a group nobody has written has no register", conformance::AbsentAtFirst},
    {"creates-only-when-absent", "a creation is granted once, and denied when a register exists",
     conformance::CreatesOnlyWhenAbsent},
    {"keeps-every-field", "every value is read back as it was written, the largest too",
     conformance::KeepsEveryField},
    {"compares-the-whole-value",
     "a change is denied if any field of the expected value differs, and shows the current one",
     conformance::ComparesTheWholeValue},
    {"repeated-request-is-granted", "a granted request that is repeated is granted again",
     conformance::RepeatedRequestIsGranted},
    {"delayed-duplicate-is-denied", "a request that comes again after later changes is denied",
     conformance::DelayedDuplicateIsDenied},
    {"groups-are-separate", "groups with similar names have registers of their own",
     conformance::GroupsAreSeparate},
    {"refuses-strange-names", "a group name that could be misread is refused",
     conformance::RefusesStrangeNames},
    {"refuses-wrong-requests", "a change that breaks the register's rules is refused",
     conformance::RefusesWrongRequests},
    {"survives-reopening", "what was granted is there for whoever opens the arbiter anew",
     conformance::SurvivesReopening},
    {"keeps-its-timeout", "a call without time returns at once, whatever the answer",
     conformance::KeepsItsTimeout},
    {"one-thread-wins", "of changes asked at once by threads, exactly one is granted",
     OneThreadWins},
    {"one-process-wins", "of changes asked at once by processes, exactly one is granted",
     OneProcessWins},
};

}  // namespace

std::span<const ConformanceCheck> ArbiterConformanceChecks() { return kChecks; }

}  // namespace haven
