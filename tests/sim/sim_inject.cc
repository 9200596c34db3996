// SPDX-License-Identifier: Apache-2.0
//
// What happens to a world, and when.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/sim/sim_world.h"

namespace haven {

// A seed draws how long it is bad, how often, and which kinds there are at all.
void SimWorld::InjectFaults() {
  faults_over_ns_ = random_.Between(1000, 5000) * kNsPerMs;
  const int64_t mean_ns = random_.Between(20, 400) * kNsPerMs;
  std::vector<SimFault> kinds;
  for (uint8_t i = 0; i < static_cast<uint8_t>(SimFault::kCount); ++i) {
    if (random_.Chance(1, 4)) kinds.push_back(static_cast<SimFault>(i));
  }
  if (kinds.empty()) kinds.push_back(SimFault::kHostCrash);
  int64_t when_ns = random_.Between(0, 400) * kNsPerMs;
  while (when_ns < faults_over_ns_) {
    const SimFault fault = kinds[random_.Below(kinds.size())];
    scheduler_.At(when_ns, [this, fault] {
      if (faults_over_) return;
      ++result_.coverage[{fault, ProtocolState()}];
      Trace(absl::StrCat("fault ", SimFaultName(fault), " in ", ProtocolState()));
      Inject(fault);
    });
    when_ns += random_.Between(mean_ns / 4, mean_ns * 2);
  }
}

// The state a fault is counted in: that of the owner's engine and of the session.
std::string SimWorld::ProtocolState() const {
  std::string state = "no-engine";
  const int owner = OwnerHost();
  if (owner >= 0 && hosts_[owner].guard->engine != nullptr) {
    state = ProtectionStateName(
        hosts_[owner].guard->engine->driver().primary().state(hosts_[owner].clock->NowNs()));
  } else if (owner >= 0) {
    state = "recovering";
  }
  for (const Host& host : hosts_) {
    if (host.session == nullptr) continue;
    const Backup::State backup = host.session->driver().backup().state();
    if (backup >= Backup::State::kClaiming && backup <= Backup::State::kHandingBack) {
      return absl::StrCat("backup-", Backup::StateName(backup));
    }
  }
  return state;
}

void SimWorld::Inject(SimFault fault) {
  const int owner = OwnerHost();
  const int primary = owner < 0 ? 0 : owner;
  const int64_t length_ns = random_.Chance(1, 2) ? random_.Between(1, 60) * kNsPerMs
                                                 : random_.Between(60, 1500) * kNsPerMs;
  InjectNetwork(fault, primary, length_ns);
  InjectHypervisor(fault, length_ns);
  InjectCopy(fault, primary, length_ns);
}

void SimWorld::InjectNetwork(SimFault fault, int primary, int64_t length_ns) {
  const int backup = 1 - primary;
  const int64_t until_ns = scheduler_.now_ns() + length_ns;
  SimFaults& wire = network_.faults();
  const auto for_a_while = [this, length_ns](uint32_t* rate, uint32_t per_mille) {
    *rate = per_mille;
    scheduler_.After(length_ns, [rate] { *rate = 0; });
  };
  const auto cut = [this](int one, int other, int64_t end_ns) {
    network_.Cut(one, other, end_ns);
    network_.Cut(other, one, end_ns);
  };
  switch (fault) {
    case SimFault::kPartition:
      return cut(0, 1, until_ns);
    case SimFault::kOneWayOut:
      return network_.Cut(primary, backup, until_ns);
    case SimFault::kOneWayBack:
      return network_.Cut(backup, primary, until_ns);
    case SimFault::kFlap:
      for (int i = 0; i < 6; ++i) {
        scheduler_.After(i * length_ns / 3, [this, cut, length_ns] {
          if (!faults_over_) cut(0, 1, scheduler_.now_ns() + length_ns / 6);
        });
      }
      return;
    case SimFault::kBeatsOnly:
      network_.CutPath(SimPath::kChannel, until_ns);
      return network_.CutPath(SimPath::kData, until_ns);
    case SimFault::kDataOnly:
      network_.CutPath(SimPath::kChannel, until_ns);
      return network_.CutPath(SimPath::kBeats, until_ns);
    case SimFault::kArbiterCutPrimary:
      return cut(primary, kArbiterHost, until_ns);
    case SimFault::kArbiterCutBackup:
      return cut(backup, kArbiterHost, until_ns);
    case SimFault::kArbiterLosesAnswers:
      for_a_while(&wire.lost_request, 200);
      return for_a_while(&wire.lost_answer, 400);
    case SimFault::kArbiterDenies:
      return for_a_while(&wire.denied, 300);
    case SimFault::kGhostWrites:
      return for_a_while(&wire.ghost_write, 600);
    case SimFault::kTornWrites:
      return for_a_while(&wire.torn_write, 600);
    case SimFault::kCorruptWrites:
      return for_a_while(&wire.corrupt_write, 30);
    case SimFault::kSlowPeer:
      return for_a_while(&wire.slow_write, 300);
    case SimFault::kRevokeFails:
      return for_a_while(&wire.revoke_fails, 600);
    default:
      return;
  }
}

void SimWorld::InjectHypervisor(SimFault fault, int64_t length_ns) {
  SimGuestFaults& guest = guests_.faults;
  const auto for_a_while = [this, length_ns](uint32_t* rate, uint32_t per_mille) {
    *rate = per_mille;
    scheduler_.After(length_ns, [rate] { *rate = 0; });
  };
  switch (fault) {
    case SimFault::kClockJump:
      return hosts_[random_.Below(2)].clock->JumpNs(random_.Between(1, 400) * kNsPerMs);
    case SimFault::kFetchFails:
      return for_a_while(&guest.fetch_fails, 400);
    case SimFault::kLogLost:
      return for_a_while(&guest.log_lost, 100);
    case SimFault::kSuspendIgnored:
      return for_a_while(&guest.suspend_ignored, 500);
    case SimFault::kCaptureFails:
      return for_a_while(&guest.capture_fails, 400);
    case SimFault::kOutputFails:
      return for_a_while(&guest.output_fails, 150);
    case SimFault::kPromotionFails:
      for_a_while(&guest.prepare_fails, 500);
      for_a_while(&guest.abandon_fails, 300);
      return for_a_while(&guest.run_fails, 500);
    case SimFault::kRunFailsOnce:
      guest.run_fails_once = 1;
      return;
    case SimFault::kRunAnswerLost:
      return for_a_while(&guest.run_answer_lost, 500);
    default:
      return;
  }
}

void SimWorld::InjectCopy(SimFault fault, int primary, int64_t length_ns) {
  const std::unique_ptr<Guard>& guard = hosts_[primary].guard;
  const std::shared_ptr<SimSession>& session = hosts_[1 - primary].session;
  const bool engine = guard != nullptr && guard->engine != nullptr;
  const int64_t until_ns = scheduler_.now_ns() + length_ns;
  const auto end_guest = [&](DomainEnd end) {
    if (guard == nullptr) return;
    guard->group->guests()[random_.Below(config_.guests)]->EndAs(end);
  };
  switch (fault) {
    case SimFault::kEngineCrash:
      if (engine && guard->up) EngineDied(primary);
      return;
    case SimFault::kEngineHang:
      if (!engine) return;
      guard->engine->loop().HangUntil(until_ns);
      return scheduler_.After(config_.hang_ns, [this, primary, hung = guard->engine.get()] {
        const std::unique_ptr<Guard>& self = hosts_[primary].guard;
        if (self == nullptr || self->engine.get() != hung || !hung->loop().hung()) return;
        Trace(absl::StrCat("host ", primary, " guard: the engine hangs: killing it"));
        EngineDied(primary);
      });
    case SimFault::kGuardCrash:
      return InjectGuard(primary);
    case SimFault::kSessionCrash:
      return CrashSession(1 - primary);
    case SimFault::kSessionHang:
      if (session != nullptr) session->loop().HangUntil(until_ns);
      return;
    case SimFault::kHostCrash:
      return CrashHost(random_.Chance(2, 3) ? primary : 1 - primary);
    case SimFault::kChannelLost:
      if (engine) guard->engine->LoseChannel();
      return;
    case SimFault::kRailFails:
      if (engine) guard->engine->BreakData();
      return;
    case SimFault::kGuestShutdown:
      return end_guest(random_.Chance(1, 2) ? DomainEnd::kShutdown : DomainEnd::kReboot);
    case SimFault::kGuestCrash:
      return end_guest(DomainEnd::kCrash);
    case SimFault::kGuestVanish:
      return end_guest(DomainEnd::kVanished);
    case SimFault::kBurst:
      for (int i = 0; guard != nullptr && i < 20; ++i) {
        for (const auto& one : guard->group->guests()) one->RunSlice(true);
      }
      return;
    case SimFault::kHandover:
      if (engine && guard->engine->driver().RequestHandover().ok()) guard->engine->loop().Wake();
      return;
    case SimFault::kOperatorPromote:
      if (session != nullptr && session->driver().Promote().ok()) session->loop().Wake();
      return;
    case SimFault::kUnprotect:
      if (!engine) return;
      guard->engine->driver().Unprotect();
      return guard->engine->loop().Wake();
    default:
      return;
  }
}

// The guard dies, its engine with it; a service manager starts it again.
void SimWorld::InjectGuard(int host) {
  if (hosts_[host].guard == nullptr) return;
  Guard& guard = *hosts_[host].guard;
  if (!guard.up || !guard.record) return;
  KillEngine(host);
  guard.recovery.reset();
  guard.port.reset();
  if (guard.loop != nullptr) Bury(std::shared_ptr<SimLoop>(std::move(guard.loop)));
  guard.up = false;
  scheduler_.After(random_.Between(5, 300) * kNsPerMs, [this, host, copy = guard.group->copy()] {
    const std::unique_ptr<Guard>& again = hosts_[host].guard;
    if (again == nullptr || again->group->copy() != copy) return;
    again->up = true;
    StartRecovery(host, false);
  });
}

void SimWorld::CrashSession(int host) {
  if (hosts_[host].session == nullptr) return;
  if (hosts_[host].session->driver().backup().registers().change_pending()) request_died_ = true;
  Bury(TakeSession(host));
  if (OwnerDied()) lost_ = true;
}

void SimWorld::CrashHost(int index) {
  Host& host = hosts_[index];
  if (!host.up) return;
  host.up = false;
  ++host.boots;
  Trace(absl::StrCat("host ", index, " loses power"));
  CrashSession(index);
  if (host.guard != nullptr) {
    Guard& guard = *host.guard;
    const bool asks = (guard.engine != nullptr && guard.engine->asks_arbiter()) ||
                      (guard.recovery != nullptr && guard.recovery->registers().change_pending());
    if (asks) request_died_ = true;
    KillEngine(index);
    guard.port.reset();
    guard.recovery.reset();
    RemoveCopy(index);
  }
  scheduler_.After(random_.Between(50, 1500) * kNsPerMs,
                   [this, index] { hosts_[index].up = true; });
  if (OwnerDied()) lost_ = true;
}

// Without the owner's copy, and without a replica that may run, the group is lost: that is not the
// engine's doing. The register says whether it is so.
bool SimWorld::OwnerDied() const {
  const std::optional<Register>& truth = arbiter_.truth();
  if (rebooting_) return false;
  for (const Host& host : hosts_) {
    if (host.guard != nullptr) {
      const SimGroup& group = *host.guard->group;
      if (group.is_new() || (truth.has_value() && truth->owner == group.owner())) return false;
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
