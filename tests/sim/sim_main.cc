// SPDX-License-Identifier: Apache-2.0
//
// Runs the simulation over a range of seeds.
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "engine/base/mutant.h"
#include "tests/sim/sim_world.h"

ABSL_FLAG(uint64_t, seed, 1, "first seed");
ABSL_FLAG(uint64_t, seeds, 1000, "how many seeds");
ABSL_FLAG(bool, trace, false, "print what happens");
ABSL_FLAG(bool, coverage, false, "print how often each fault met each state of the protocol");
ABSL_FLAG(std::string, expect, "",
          "succeed only if some seed violates this invariant: I1, I2, ...");
#ifdef HAVEN_MUTANTS
ABSL_FLAG(std::string, mutant, "", "the broken variant to run; --mutant=list names them");
#endif
ABSL_FLAG(uint64_t, failures_max, 5, "stop after so many failing seeds");

namespace haven {
namespace {

struct SimTotal {
  uint64_t released = 0;
  uint64_t promotions = 0;
  uint64_t epochs = 0;
  uint64_t lost = 0;
  uint64_t coded_epochs = 0;
  std::map<std::pair<SimFault, std::string>, uint64_t> coverage;
};

void PrintCoverage(const std::map<std::pair<SimFault, std::string>, uint64_t>& coverage) {
  std::set<std::string> states;
  for (const auto& [key, count] : coverage) states.insert(key.second);
  for (uint8_t i = 0; i < static_cast<uint8_t>(SimFault::kCount); ++i) {
    const SimFault fault = static_cast<SimFault>(i);
    std::printf("%-22s", SimFaultName(fault));
    for (const std::string& state : states) {
      const auto found = coverage.find({fault, state});
      std::printf(" %s=%llu", state.c_str(),
                  static_cast<unsigned long long>(found == coverage.end() ? 0 : found->second));
    }
    std::printf("\n");
  }
}

// What a run of so many seeds does at the very least: fewer, and the checks have had nothing to
// look at. Empty: all is well.
std::string Implausible(const SimTotal& total, uint64_t seeds) {
  // A few seeds may all be poor.
  constexpr uint64_t kSeedsMin = 500;
  if (seeds < kSeedsMin) return "";
  if (total.epochs < seeds * 30) return "too few epochs";
  if (total.coded_epochs < seeds * 10) return "too few epochs of coded pages";
  if (total.released < seeds * 300) return "too few packets";
  if (total.promotions < seeds / 3) return "too few promotions";
  if (total.lost > seeds / 4) return "too many groups lost";
  for (uint8_t i = 0; i < static_cast<uint8_t>(SimFault::kCount); ++i) {
    const SimFault fault = static_cast<SimFault>(i);
    const auto met = total.coverage.find({fault, "protected"});
    if (met == total.coverage.end() || met->second < seeds / 100) {
      return std::string("too few protected groups met ") + SimFaultName(fault);
    }
  }
  return "";
}

#ifdef HAVEN_MUTANTS
struct NamedMutant {
  const char* name;
  Mutant mutant;
};
constexpr NamedMutant kMutants[] = {
    {"commit-before-data", Mutant::kCommitBeforeData},
    {"release-before-commit", Mutant::kReleaseBeforeCommit},
    {"promote-before-register", Mutant::kPromoteBeforeRegister},
    {"read-before-cut-off", Mutant::kReadBeforeCutOff},
    {"apply-before-verify", Mutant::kApplyBeforeVerify},
    {"reuse-before-apply", Mutant::kReuseBeforeApply},
    {"drop-dirty-on-failure", Mutant::kDropDirtyOnFailure},
    {"reuse-epoch-number", Mutant::kReuseEpochNumber},
    {"believe-old-ack", Mutant::kBelieveOldAck},
    {"open-before-solo", Mutant::kOpenBeforeSolo},
    {"promote-stale", Mutant::kPromoteStale},
    {"barrier-before-stopped", Mutant::kBarrierBeforeStopped},
    {"unknown-is-denied", Mutant::kUnknownIsDenied},
    {"guard-opens-without-grant", Mutant::kGuardOpensWithoutGrant},
    {"destroy-before-running", Mutant::kDestroyBeforeRunning},
    {"end-before-none", Mutant::kEndBeforeNone},
    {"forget-resume", Mutant::kForgetResume},
    {"rebuild-before-commit", Mutant::kRebuildBeforeCommit},
    {"baseline-before-ack", Mutant::kBaselineBeforeAck},
    {"baseline-survives-plain", Mutant::kBaselineSurvivesPlain},
    {"refer-to-written", Mutant::kReferToWritten},
};

// False: nothing is left to run.
bool ChooseMutant() {
  const std::string wanted = absl::GetFlag(FLAGS_mutant);
  if (wanted.empty()) return true;
  for (const NamedMutant& named : kMutants) {
    if (wanted == "list") std::printf("%s\n", named.name);
    if (wanted != named.name) continue;
    g_mutant = named.mutant;
    return true;
  }
  if (wanted != "list") std::fprintf(stderr, "no such mutant: %s\n", wanted.c_str());
  return false;
}
#endif

int Run() {
#ifdef HAVEN_MUTANTS
  if (!ChooseMutant()) return absl::GetFlag(FLAGS_mutant) == "list" ? 0 : 2;
#endif
  const uint64_t first = absl::GetFlag(FLAGS_seed);
  const uint64_t count = absl::GetFlag(FLAGS_seeds);
  const std::string expect = absl::GetFlag(FLAGS_expect);
  SimTotal total;
  uint64_t failures = 0;
  uint64_t done = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SimWorld world(seed, absl::GetFlag(FLAGS_trace));
    const SimResult result = world.Run();
    ++done;
    total.released += result.released;
    total.promotions += result.promotions;
    total.epochs += result.epochs;
    total.coded_epochs += result.coded_epochs;
    total.lost += result.group_lost ? 1 : 0;
    for (const auto& [key, hits] : result.coverage) total.coverage[key] += hits;
    if (result.violation.compare(0, expect.size(), expect) != 0) continue;
    if (result.violation.empty()) continue;
    ++failures;
    std::printf("seed %llu: %s\n  again: sim --seed=%llu --seeds=1 --trace\n",
                static_cast<unsigned long long>(seed), result.violation.c_str(),
                static_cast<unsigned long long>(seed));
    if (!expect.empty() || failures >= absl::GetFlag(FLAGS_failures_max)) break;
  }
  if (absl::GetFlag(FLAGS_coverage)) PrintCoverage(total.coverage);
  std::printf(
      "%llu seeds, %llu failed: %llu epochs, %llu of them coded, %llu packets released, %llu "
      "promotions, %llu groups lost with both hosts\n",
      static_cast<unsigned long long>(done), static_cast<unsigned long long>(failures),
      static_cast<unsigned long long>(total.epochs),
      static_cast<unsigned long long>(total.coded_epochs),
      static_cast<unsigned long long>(total.released),
      static_cast<unsigned long long>(total.promotions),
      static_cast<unsigned long long>(total.lost));
  if (!expect.empty()) return failures > 0 ? 0 : 1;
  const std::string implausible = Implausible(total, done);
  if (!implausible.empty()) std::printf("the run shows nothing: %s\n", implausible.c_str());
  return failures == 0 && implausible.empty() ? 0 : 1;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Simulates primary, backup, arbiter, guests and network from seeds, with faults, and checks "
      "the invariants.");
  absl::ParseCommandLine(argc, argv);
  return haven::Run();
}
