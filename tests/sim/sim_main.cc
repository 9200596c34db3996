// SPDX-License-Identifier: Apache-2.0
//
// Runs the simulation over a range of seeds.
#include <malloc.h>

#include <cstdint>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

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
ABSL_FLAG(uint32_t, jobs, std::thread::hardware_concurrency(), "threads, each with its own worlds");
ABSL_FLAG(uint64_t, failures_max, 5, "stop after so many failing seeds");

namespace haven {
namespace {

struct SimTotal {
  uint64_t seeds = 0;
  uint64_t released = 0;
  uint64_t promotions = 0;
  uint64_t epochs = 0;
  uint64_t lost = 0;
  uint64_t copies_lost = 0;
  uint64_t let_go = 0;
  uint64_t coded_epochs = 0;
  uint64_t verified_epochs = 0;
  uint64_t sealed_epochs = 0;
  uint64_t kept_logs = 0;
  uint64_t cleared_logs = 0;
  uint64_t crashed = 0;
  uint64_t fail_stops = 0;
  uint64_t short_cuts = 0;
  SimCoverage coverage;

  void Add(const SimResult& result) {
    ++seeds;
    released += result.released;
    promotions += result.promotions;
    epochs += result.epochs;
    lost += result.group_lost ? 1 : 0;
    copies_lost += result.copies_lost;
    let_go += result.let_go;
    coded_epochs += result.coded_epochs;
    verified_epochs += result.verified_epochs;
    sealed_epochs += result.sealed_epochs;
    kept_logs += result.kept_logs;
    cleared_logs += result.cleared_logs;
    crashed += result.crashed ? 1 : 0;
    fail_stops += result.fail_stops;
    short_cuts += result.short_cuts;
    coverage.Add(result.coverage);
  }

  void Print(uint64_t failures) const {
    const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf(
        "%llu seeds, %llu failed: %llu epochs, %llu of them coded, %llu of these verified, and "
        "%llu sealed, %llu with a dirty log that was kept, %llu such logs cleared between two "
        "epochs, %llu packets released, %llu promotions, %llu groups lost with both hosts; "
        "%llu copies lost while they waited, %llu guests that stood and were let go on by others, "
        "%llu processes died at an event of their own, %llu calm fail-stops and %llu short cuts\n",
        number(seeds), number(failures), number(epochs), number(coded_epochs),
        number(verified_epochs), number(sealed_epochs), number(kept_logs), number(cleared_logs),
        number(released), number(promotions), number(lost), number(copies_lost), number(let_go),
        number(crashed), number(fail_stops), number(short_cuts));
  }
};

// What a run of so many seeds does at the very least: fewer, and the checks have had nothing to
// look at. Empty: all is well.
std::string Implausible(const SimTotal& total) {
  // A few seeds may all be poor.
  constexpr uint64_t kSeedsMin = 500;
  const uint64_t seeds = total.seeds;
  if (seeds < kSeedsMin) return "";
  if (total.epochs < seeds * 30) return "too few epochs";
  if (total.coded_epochs < seeds * 10) return "too few epochs of coded pages";
  if (total.verified_epochs < seeds * 5) return "too few coded epochs with hashes to verify";
  if (total.sealed_epochs < seeds * 7) return "too few sealed epochs";
  if (total.kept_logs < seeds * 2) return "too few dirty logs were kept";
  if (total.cleared_logs < seeds / 10) return "too few kept logs were cleared between two epochs";
  if (total.released < seeds * 300) return "too few packets";
  if (total.promotions < seeds / 3) return "too few promotions";
  if (total.lost > seeds / 4) return "too many groups lost";
  if (total.copies_lost < seeds / 10) return "too few copies were lost";
  if (total.let_go < seeds / 4) return "too few guests were let go on by others";
  if (total.crashed < seeds / 4) return "too few processes died at an event of their own";
  if (total.fail_stops < seeds / 3) return "too few calm fail-stops";
  if (total.short_cuts < seeds / 10) return "too few short cuts";
  // Rare pairs need many seeds.
  constexpr uint64_t kSeedsForAll = 20000;
  if (seeds < kSeedsForAll) return "";
  // A rule that is wrong hides nothing, but is to be mended.
  for (const std::string& line : total.coverage.Surprises()) std::printf("%s\n", line.c_str());
  const std::vector<std::string> gaps = total.coverage.Gaps();
  for (const std::string& gap : gaps) std::printf("%s\n", gap.c_str());
  if (!gaps.empty()) return "faults and states have not met as stated (tests/sim/sim_reach.cc)";
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
    {"ignore-seal", Mutant::kIgnoreSeal},
    {"record-too-late", Mutant::kRecordTooLate},
    {"resend-all", Mutant::kResendAll},
    {"slow-to-claim", Mutant::kSlowToClaim},
    {"forget-deadline", Mutant::kForgetDeadline},
    {"keep-lost-copy", Mutant::kKeepLostCopy},
    {"give-up-at-once", Mutant::kGiveUpAtOnce},
    {"forget-cleared", Mutant::kForgetCleared},
    {"outlive-too-late", Mutant::kOutliveTooLate},
    {"rebuild-beside-guest", Mutant::kRebuildBesideGuest},
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

// Works through the seeds, with as many threads as there are cores: each world is of one thread and
// knows nothing of the others.
class SimRun {
 public:
  SimRun() : next_(absl::GetFlag(FLAGS_seed)), end_(next_ + absl::GetFlag(FLAGS_seeds)) {}

  int Run() {
    std::vector<std::thread> threads;
    for (uint32_t i = 1; i < absl::GetFlag(FLAGS_jobs); ++i) {
      threads.emplace_back([this] { Work(); });
    }
    Work();
    for (std::thread& thread : threads) thread.join();
    return Report();
  }

 private:
  void Work() {
    while (const std::optional<uint64_t> seed = Next()) {
      Take(*seed, SimWorld(*seed, absl::GetFlag(FLAGS_trace)).Run());
    }
  }

  std::optional<uint64_t> Next() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool over = failures_ > 0 && (!expect_.empty() || failures_ >= failures_max_);
    if (over || next_ == end_) return std::nullopt;
    return next_++;
  }

  void Take(uint64_t seed, const SimResult& result) {
    const std::lock_guard<std::mutex> lock(mutex_);
    total_.Add(result);
    if (result.violation.empty() || result.violation.compare(0, expect_.size(), expect_) != 0) {
      return;
    }
    ++failures_;
    std::printf("seed %llu: %s\n  again: sim --seed=%llu --seeds=1 --trace\n",
                static_cast<unsigned long long>(seed), result.violation.c_str(),
                static_cast<unsigned long long>(seed));
  }

  int Report() const {
    if (absl::GetFlag(FLAGS_coverage)) total_.coverage.Print();
    total_.Print(failures_);
    if (!expect_.empty()) return failures_ > 0 ? 0 : 1;
    const std::string implausible = Implausible(total_);
    if (!implausible.empty()) std::printf("the run shows nothing: %s\n", implausible.c_str());
    return failures_ == 0 && implausible.empty() ? 0 : 1;
  }

  const std::string expect_ = absl::GetFlag(FLAGS_expect);
  const uint64_t failures_max_ = absl::GetFlag(FLAGS_failures_max);
  std::mutex mutex_;
  uint64_t next_;
  const uint64_t end_;
  uint64_t failures_ = 0;
  SimTotal total_;
};

int Run() {
#ifdef HAVEN_MUTANTS
  if (!ChooseMutant()) return absl::GetFlag(FLAGS_mutant) == "list" ? 0 : 2;
#endif
  // Worlds come and go: their memory stays with the process.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  return SimRun().Run();
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
