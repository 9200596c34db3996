// SPDX-License-Identifier: Apache-2.0
//
// haven-arbiter-conformance: lets operators check their arbiter, above all a program for exec.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/membership/arbiter_conformance.h"
#include "engine/membership/arbiter_factory.h"

ABSL_FLAG(int32_t, timeout_seconds, 10, "time for each call to the arbiter, 1 to 3600");

namespace haven {
namespace {

constexpr int kExitPassed = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int Check(const std::string& spec, const std::string& this_program, absl::Duration timeout) {
  const absl::StatusOr<std::unique_ptr<Arbiter>> arbiter = MakeArbiter(spec);
  if (!arbiter.ok()) {
    absl::FPrintF(stderr, "%s\n", arbiter.status().message());
    return kExitUsage;
  }
  ConformanceTarget target;
  target.open = [spec] {
    absl::StatusOr<std::unique_ptr<Arbiter>> opened = MakeArbiter(spec);
    HAVEN_CHECK_OK(opened);
    return *std::move(opened);
  };
  target.spec = spec;
  target.racer_program = this_program;
  target.group_prefix = absl::StrFormat("conformance-%016x", RandomRequestId());
  target.timeout = timeout;
  if (absl::StartsWith(spec, "manual:")) {
    target.grants_come_late = true;
    absl::PrintF("Every change waits for an operator: approve all requests while this runs.\n");
  }
  size_t failures = 0;
  for (const ConformanceCheck& check : ArbiterConformanceChecks()) {
    const absl::Status status = check.run(target);
    if (!status.ok()) ++failures;
    absl::PrintF("%-4s %s: %s%s%s\n", status.ok() ? "ok" : "FAIL", check.name, check.meaning,
                 status.ok() ? "" : " -- ", status.message());
    std::fflush(stdout);
  }
  absl::PrintF("%d checks of %s, %d failed; the registers of the groups %s-* stay there\n",
               ArbiterConformanceChecks().size(), (*arbiter)->Describe(), failures,
               target.group_prefix);
  return failures == 0 ? kExitPassed : kExitFailed;
}

int Race(const std::vector<char*>& arguments) {
  uint64_t rounds = 0;
  int64_t seconds = 0;
  if (arguments.size() != 7 || !absl::SimpleAtoi(arguments[5], &rounds) ||
      !absl::SimpleAtoi(arguments[6], &seconds) || seconds < 1) {
    absl::FPrintF(stderr, "usage: %s race SPEC GROUP OWNER ROUNDS SECONDS\n", arguments[0]);
    return kExitUsage;
  }
  const absl::StatusOr<std::unique_ptr<Arbiter>> arbiter = MakeArbiter(arguments[2]);
  if (!arbiter.ok()) {
    absl::FPrintF(stderr, "%s\n", arbiter.status().message());
    return kExitUsage;
  }
  const absl::Duration timeout = absl::Seconds(seconds);
  const absl::StatusOr<RaceResult> result =
      RunRace(**arbiter, arguments[3], arguments[4], rounds, timeout, 10 * timeout);
  if (!result.ok()) {
    absl::FPrintF(stderr, "%s\n", result.status().message());
    return kExitFailed;
  }
  absl::PrintF("%s\n", FormatRaceResult(*result));
  return kExitPassed;
}

int Main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      absl::StrCat("checks that an arbiter keeps its contract (docs/arbiter.md).\n\n"
                   "  arbiter_conformance [--timeout_seconds=10] SPEC\n"
                   "      Runs every check and prints one line for each. SPEC: ",
                   kArbiterSpecForms,
                   "\n"
                   "      The registers of the groups it makes up stay in the arbiter; their names "
                   "are printed.\n"
                   "  arbiter_conformance race SPEC GROUP OWNER ROUNDS SECONDS\n"
                   "      Contends for an existing register until its term is ROUNDS; prints the "
                   "terms granted.\n"
                   "      Run it on both hosts at once: no term may be granted twice.\n\n"
                   "Exit code: 0 all passed, 1 a check failed, 2 wrong usage."));
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() >= 2 && absl::string_view(arguments[1]) == "race") return Race(arguments);
  const int32_t timeout_seconds = absl::GetFlag(FLAGS_timeout_seconds);
  if (arguments.size() != 2 || timeout_seconds < 1 || timeout_seconds > 3600) {
    absl::FPrintF(stderr, "usage: %s [--timeout_seconds=10] SPEC (see --help)\n", arguments[0]);
    return kExitUsage;
  }
  return Check(arguments[1], "/proc/self/exe", absl::Seconds(timeout_seconds));
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) { return haven::Main(argc, argv); }
