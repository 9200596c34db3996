// SPDX-License-Identifier: Apache-2.0
//
// I5 in the simulation: whoever waits has a deadline or somebody who owes an answer, guests that
// stand still have a stated reason, and without faults they do not stand still for long.
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/sim/sim_world.h"

namespace haven {

namespace {

// A deadline is acted on by the loop's next turn at the latest; jumps of the clock are shorter.
constexpr int64_t kOverdueNs = 600 * kNsPerMs;
// Between two steps of an epoch with the guests stopped, each answered at once.
constexpr int64_t kReasonNs = 250 * kNsPerMs;
// The longest chain: a deposed copy waits for the new one, takes the term back and goes on.
constexpr int64_t kStandStillNs = 5 * kNsPerSecond;

// For how long `holds` has been so, as far as it was looked at.
int64_t Lasts(std::optional<int64_t>* since_ns, bool holds, int64_t now_ns) {
  if (!holds) since_ns->reset();
  if (holds && !since_ns->has_value()) *since_ns = now_ns;
  return since_ns->has_value() ? now_ns - **since_ns : 0;
}

}  // namespace

void SimWorld::CheckWaits() {
  for (int host = 0; host < 2; ++host) {
    if (hosts_[host].guard != nullptr) CheckCopy(host);
    const std::shared_ptr<SimSession>& session = hosts_[host].session;
    if (session == nullptr) continue;
    const Backup& backup = session->driver().backup();
    // An apply ends by itself.
    const bool owed = backup.registers().busy() || backup.state() == Backup::State::kApplying;
    if (backup.end() == BackupEnd::kNotYet && backup.NextWakeNs() == kNever && !owed) {
      checks_.Violate(absl::StrCat("I5: the session on host ", host, " waits for nothing in state ",
                                   Backup::StateName(backup.state())));
    }
  }
}

void SimWorld::CheckCopy(int host) {
  Guard& guard = *hosts_[host].guard;
  const int64_t sim_ns = scheduler_.now_ns();
  const int64_t now_ns = hosts_[host].clock->NowNs();
  const int64_t stopped_ns = Lasts(&guard.stopped_since_ns, guard.group->AllStopped(), sim_ns);
  if (faults_over_ && guard.record && sim_ns >= faults_over_ns_ + kStandStillNs &&
      stopped_ns >= kStandStillNs) {
    checks_.Violate(
        absl::StrCat("I5: the guests of ", guard.group->owner(), " stand still: ", Describe()));
  }
  if (guard.recovery != nullptr) {
    const Recovery& recovery = *guard.recovery;
    if (recovery.NextWakeNs() == kNever && !recovery.registers().busy() &&
        recovery.state() != Recovery::State::kDestroying &&
        recovery.state() != Recovery::State::kDone) {
      checks_.Violate(
          absl::StrCat("I5: the guard on host ", host, " waits for nothing: ", recovery.cause()));
    }
    return;
  }
  if (guard.engine == nullptr || guard.engine->loop().hung()) return;
  const Primary& primary = guard.engine->driver().primary();
  if (primary.end() != PrimaryEnd::kNotYet) return;
  if (primary.NextWakeNs() == kNever && !guard.engine->asks_arbiter()) {
    checks_.Violate(
        absl::StrCat("I5: the engine on host ", host, " waits for nothing: ", primary.cause()));
  }
  if (primary.NextWakeNs() < now_ns - kOverdueNs) {
    checks_.Violate(absl::StrCat("I5: a deadline of the engine on host ", host, " is overdue by ",
                                 (now_ns - primary.NextWakeNs()) / kNsPerMs, " ms"));
  }
  const bool reasonless =
      primary.phase() == Primary::Phase::kStopped && primary.pause_reason() == PauseReason::kNone;
  if (Lasts(&guard.reasonless_since_ns, reasonless, sim_ns) >= kReasonNs) {
    checks_.Violate(absl::StrCat("I5: the guests of ", guard.group->owner(),
                                 " are stopped without a stated reason: ", Describe()));
  }
}

}  // namespace haven
