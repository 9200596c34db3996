// SPDX-License-Identifier: Apache-2.0
//
// I5 in the simulation: whoever waits has a deadline or somebody who owes an answer, guests that
// stand still have a stated reason, and without faults they do not stand still for long.
#include <string>

#include "absl/strings/str_cat.h"
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
    const std::shared_ptr<SimGuard>& guard = hosts_[host].guard;
    const int64_t now_ns = hosts_[host].clock->NowNs();
    if (hosts_[host].copy != nullptr) CheckCopy(host);
    if (EngineAt(host) != nullptr) CheckEngine(host);
    if (guard != nullptr && guard->recovery() != nullptr) {
      const Recovery& recovery = *guard->recovery();
      const bool owed = recovery.registers().busy() ||
                        recovery.state() == Recovery::State::kDestroying ||
                        recovery.state() == Recovery::State::kDone;
      CheckWait(absl::StrCat("the guard on host ", host), recovery.cause(),
                owed && recovery.NextWakeNs() == kNever, recovery.NextWakeNs(), now_ns,
                guard->hung());
    }
    const std::shared_ptr<SimSession>& session = hosts_[host].session;
    if (session == nullptr) continue;
    const Backup& backup = session->driver().backup();
    if (backup.end() != BackupEnd::kNotYet) continue;
    // An apply ends by itself.
    const bool owed = backup.registers().busy() || backup.state() == Backup::State::kApplying;
    CheckWait(absl::StrCat("the session on host ", host), Backup::StateName(backup.state()),
              owed && backup.NextWakeNs() == kNever, backup.NextWakeNs(), now_ns,
              session->loop().hung());
  }
}

// `owed`: somebody else's answer comes for certain, be it that there is none.
void SimWorld::CheckWait(const std::string& who, const char* what, bool owed, int64_t wake_ns,
                         int64_t now_ns, bool hung) {
  if (owed || hung) return;
  if (wake_ns == kNever) {
    return checks_.Violate(absl::StrCat("I5: ", who, " waits for nothing: ", what));
  }
  if (wake_ns >= now_ns - kOverdueNs) return;
  checks_.Violate(absl::StrCat("I5: a deadline of ", who, " is overdue by ",
                               (now_ns - wake_ns) / kNsPerMs, " ms: ", what));
}

void SimWorld::CheckCopy(int host) {
  const SimGroup& group = *hosts_[host].copy;
  const int64_t sim_ns = scheduler_.now_ns();
  const int64_t stopped_ns = Lasts(&hosts_[host].stopped_since_ns, group.AllStopped(), sim_ns);
  if (group.output().held() > SimOutput::kHeldMax) {
    checks_.Violate("I5: the buffer holds more than its limit");
  }
  if (!faults_over_ || !hosts_[host].record.has_value() || stopped_ns < kStandStillNs) return;
  if (sim_ns < faults_over_ns_ + kStandStillNs) return;
  checks_.Violate(absl::StrCat("I5: the guests of ", group.owner(), " stand still: ", Describe()));
}

void SimWorld::CheckEngine(int host) {
  const SimEngine& engine = *EngineAt(host);
  const Primary& primary = engine.driver().primary();
  if (primary.end() != PrimaryEnd::kNotYet) return;
  const bool hung = hosts_[host].guard->engine()->loop().hung();
  CheckWait(absl::StrCat("the engine on host ", host), primary.cause(),
            primary.NextWakeNs() == kNever && engine.asks_arbiter(), primary.NextWakeNs(),
            hosts_[host].clock->NowNs(), hung);
  const bool reasonless =
      primary.phase() == Primary::Phase::kStopped && primary.pause_reason() == PauseReason::kNone;
  if (Lasts(&hosts_[host].guard->reasonless_since_ns, reasonless && !hung, scheduler_.now_ns()) >=
      kReasonNs) {
    checks_.Violate(absl::StrCat("I5: the guests of ", hosts_[host].copy->owner(),
                                 " are stopped without a stated reason: ", Describe()));
  }
}

}  // namespace haven
