// SPDX-License-Identifier: Apache-2.0
//
// Processes and hosts of the simulated world that die, and what is started again.
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

void SimWorld::CrashProcess(SimProcess process, int host) {
  const ProtocolStates states = StatesNear(host);
  switch (process) {
    case SimProcess::kEngine:
      if (CrashEngine(host)) StrikeIn(SimFault::kEngineCrash, states);
      return;
    case SimProcess::kGuard:
      if (CrashGuard(host)) StrikeIn(SimFault::kGuardCrash, states);
      return;
    case SimProcess::kSession:
      if (CrashSession(host)) StrikeIn(SimFault::kSessionCrash, states);
      return;
    case SimProcess::kListener:
      if (CrashListener(host)) StrikeIn(SimFault::kListenerCrash, states);
      return;
    case SimProcess::kCount:
      return;
  }
}

// Each answers whether there was something to kill.
bool SimWorld::CrashEngine(int host) {
  if (EngineAt(host) == nullptr) return false;
  if (EngineAt(host)->asks_arbiter()) request_died_ = true;
  hosts_[host].guard->KillEngine();
  return true;
}

bool SimWorld::CrashGuard(int host) {
  const std::shared_ptr<SimGuard> guard = hosts_[host].guard;
  if (guard == nullptr || guard->life().dead()) return false;
  if (guard->asks_arbiter()) request_died_ = true;
  guard->Die();
  return true;
}

// Sessions live on. Connections that are not admitted yet are lost, and new ones are refused until
// it is back.
bool SimWorld::CrashListener(int host) {
  if (!hosts_[host].up || !hosts_[host].listens) return false;
  hosts_[host].listens = false;
  ++hosts_[host].listeners;
  scheduler_.After(random_.Between(5, 300) * kNsPerMs,
                   [this, host] { hosts_[host].listens = true; });
  return true;
}

// Waiting copies go with it; those that are to outlive it do, and a guard finds them.
bool SimWorld::CrashSession(int host) {
  if (hosts_[host].session == nullptr) return false;
  if (hosts_[host].session->driver().backup().registers().change_pending()) request_died_ = true;
  const std::shared_ptr<SimSession> session = TakeSession(host);
  session->life().Kill();
  Bury(session);
  bool left = false;
  for (const auto& replica : session->replicas()) left |= replica->outlives();
  if (left) LeaveCopies(host, *session);
  if (hosts_[host].record.has_value()) Supervise(host);
  if (OwnerDied()) Reboot();
  return true;
}

bool SimWorld::CrashHost(int index) {
  Host& host = hosts_[index];
  if (!host.up) return false;
  host.up = false;
  ++host.boots;
  Trace(absl::StrCat("host ", index, " loses power"));
  if (host.copy != nullptr) accounted_.insert(host.copy->owner());
  if (host.session != nullptr) accounted_.insert(host.session->owner());
  CrashSession(index);
  CrashGuard(index);
  RemoveCopy(index);
  if (!host.durable) host.record.reset();
  scheduler_.After(random_.Between(50, 1500) * kNsPerMs, [this, index] {
    hosts_[index].up = true;
    hosts_[index].listens = true;
    if (hosts_[index].record.has_value()) Supervise(index);
  });
  if (OwnerDied()) Reboot();
  return true;
}

// Without the owner's copy, and without a replica that may run, the group is lost: that is not the
// engine's doing. The register says whether it is so.
bool SimWorld::OwnerDied() const {
  const std::optional<Register>& truth = arbiter_.truth();
  if (rebooting_) return false;
  for (const Host& host : hosts_) {
    if (host.copy != nullptr) {
      const bool is_new = host.record.has_value() && host.record->phase == GroupPhase::kNew;
      if (is_new || (truth.has_value() && truth->owner == host.copy->owner())) return false;
    }
    if (host.session == nullptr || !truth.has_value()) continue;
    if (truth->owner == host.session->owner()) return false;
    const Backup& backup = host.session->driver().backup();
    if (backup.consistent() && truth->mode == RegisterMode::kPromotable &&
        truth->session == backup.session()) {
      return false;
    }
  }
  // A deposed copy takes the term back from an owner that never runs.
  return !truth.has_value() || truth->running || (!HasCopy(0) && !HasCopy(1));
}

}  // namespace haven
