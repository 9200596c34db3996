// SPDX-License-Identifier: Apache-2.0
//
// I6 in the simulation: what a single failure costs a group that is at rest.
#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

namespace {

// Until whatever the last faults have left behind has passed.
constexpr int64_t kSettleNs = 600 * kNsPerMs;
// From the detection on: three turns at a prompt arbiter, the end of an apply, a start.
constexpr int64_t kPromotionNs = 60 * kNsPerMs;
// After a cut: the queue pair's retries, a link that was asked for in vain, and an epoch.
constexpr int64_t kRearmNs = 700 * kNsPerMs;

}  // namespace

void SimWorld::Probe() {
  arbiter_.SetPrompt();
  guests_.bursts = false;
  RunUntil(scheduler_.now_ns() + kSettleNs, false);
  if (checks_.violation().empty() && AtRest()) ProbeShortCut();
  RunUntil(scheduler_.now_ns() + kSettleNs, false);
  if (checks_.violation().empty() && AtRest()) ProbeFailStop();
}

// Shorter than the detection time, so that nobody is asked, and the same session goes on. How much
// it sends then is looked at with every checkpoint (SimChecks::OnCheckpoint).
void SimWorld::ProbeShortCut() {
  const std::optional<Register> before = arbiter_.truth();
  const int64_t length_ns = random_.Between(1 * kNsPerMs, config_.primary.detect_ns / 2);
  Trace(absl::StrCat("probe: a cut of ", length_ns / kNsPerUs, " us"));
  network_.Cut(0, 1, scheduler_.now_ns() + length_ns);
  network_.Cut(1, 0, scheduler_.now_ns() + length_ns);
  RunUntil(scheduler_.now_ns() + length_ns + kRearmNs, false);
  if (!checks_.violation().empty()) return;
  if (!config_.roomy) return;
  ++result_.short_cuts;
  if (arbiter_.truth() == before && AtRest()) return;
  checks_.Violate(
      absl::StrCat("I6: not re-armed after a cut of ", length_ns / kNsPerUs, " us: ", Describe()));
}

void SimWorld::ProbeFailStop() {
  const int owner = OwnerHost();
  const int other = 1 - owner;
  const std::shared_ptr<SimSession>& session = hosts_[other].session;
  if (session == nullptr || session->driver().backup().state() != Backup::State::kStandby) return;
  Trace("probe: fail-stop");
  CrashHost(owner);
  const int64_t end_ns = scheduler_.now_ns() + config_.primary.detect_ns + kPromotionNs;
  ++result_.fail_stops;
  while (checks_.violation().empty() && scheduler_.Step(end_ns)) {
    if (hosts_[other].copy != nullptr && !hosts_[other].copy->AllStopped()) return;
  }
  checks_.Violate(
      absl::StrCat("I6: the copy does not run in time after a fail-stop: ", Describe()));
}

}  // namespace haven
