// SPDX-License-Identifier: Apache-2.0
//
// What happens to a world, and when.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/sim/sim_world.h"

namespace haven {

const char* SimFaultName(SimFault fault) {
  static constexpr const char* kNames[] = {
      "engine-crash",
      "guard-crash",
      "session-crash",
      "host-crash",
      "partition",
      "one-way-out",
      "one-way-back",
      "flap",
      "arbiter-cut-primary",
      "arbiter-cut-backup",
      "arbiter-loses-answers",
      "ghost-writes",
      "torn-writes",
      "corrupt-writes",
      "slow-peer",
      "clock-jump",
      "fetch-fails",
      "log-lost",
      "suspend-ignored",
      "capture-fails",
      "output-fails",
      "promotion-fails",
      "burst",
      "handover",
      "operator-promote",
      "unprotect",
  };
  static_assert(std::size(kNames) == static_cast<size_t>(SimFault::kCount));
  return kNames[static_cast<size_t>(fault)];
}

// A seed draws how long it is bad, how often, and which kinds there are at all.
void SimWorld::InjectFaults() {
  safety_end_ns_ = random_.Between(1000, 5000) * kNsPerMs;
  const int64_t mean_ns = random_.Between(20, 400) * kNsPerMs;
  std::vector<SimFault> kinds;
  for (uint8_t i = 0; i < static_cast<uint8_t>(SimFault::kCount); ++i) {
    if (random_.Chance(1, 3)) kinds.push_back(static_cast<SimFault>(i));
  }
  if (kinds.empty()) kinds.push_back(SimFault::kHostCrash);
  int64_t when_ns = random_.Between(0, 400) * kNsPerMs;
  while (when_ns < safety_end_ns_) {
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

void SimWorld::CrashHost(int index) {
  Host& host = hosts_[index];
  if (!host.up) return;
  host.up = false;
  power_lost_ = true;
  Trace(absl::StrCat("host ", index, " loses power"));
  if (host.session != nullptr) Bury(std::exchange(host.session, nullptr));
  if (host.guard != nullptr) {
    if (host.guard->engine != nullptr) {
      result_.epochs += host.guard->engine->driver().counters().epochs;
      KillEngine(index);
    }
    host.guard->port.reset();
    host.guard->recovery.reset();
    RemoveCopy(index);
  }
  // Without a replica that may run, and without the owner's copy, the group is lost: that is not
  // the engine's doing. The register says whether it is so.
  scheduler_.After(random_.Between(50, 1500) * kNsPerMs,
                   [this, index] { hosts_[index].up = true; });
  const std::optional<Register>& truth = arbiter_.truth();
  const bool standby = std::any_of(hosts_.begin(), hosts_.end(), [&](const Host& other) {
    return other.session != nullptr && other.session->driver().backup().consistent() &&
           truth.has_value() && truth->mode == RegisterMode::kPromotable &&
           other.session->driver().backup().session() == truth->session;
  });
  const bool promoting = std::any_of(hosts_.begin(), hosts_.end(), [&](const Host& other) {
    return other.session != nullptr && truth.has_value() && truth->owner == other.session->owner();
  });
  const bool copy = HasCopy(0) || HasCopy(1);
  if (!standby && !promoting && (OwnerHost() < 0 || !copy)) lost_ = true;
}

void SimWorld::Inject(SimFault fault) {
  const int owner = OwnerHost();
  const int primary = owner < 0 ? 0 : owner;
  const int backup = 1 - primary;
  Host& host = hosts_[primary];
  const int64_t now_ns = scheduler_.now_ns();
  const int64_t length_ns = random_.Chance(1, 2) ? random_.Between(1, 60) * kNsPerMs
                                                 : random_.Between(60, 1500) * kNsPerMs;
  const auto for_a_while = [this, length_ns](uint32_t* rate, uint32_t per_mille) {
    *rate = per_mille;
    scheduler_.After(length_ns, [rate] { *rate = 0; });
  };
  SimFaults& wire = network_.faults();
  SimGuestFaults& guest = guests_.faults;
  switch (fault) {
    case SimFault::kEngineCrash:
      if (host.guard == nullptr || host.guard->engine == nullptr || !host.guard->up) return;
      result_.epochs += host.guard->engine->driver().counters().epochs;
      KillEngine(primary);
      return StartRecovery(primary, false);
    case SimFault::kGuardCrash: {
      if (host.guard == nullptr || !host.guard->up) return;
      Guard& guard = *host.guard;
      if (guard.engine != nullptr) KillEngine(primary);
      guard.recovery.reset();
      guard.port.reset();
      if (guard.loop != nullptr) Bury(std::shared_ptr<SimLoop>(std::move(guard.loop)));
      guard.up = false;
      return scheduler_.After(random_.Between(5, 300) * kNsPerMs,
                              [this, primary, copy = guard.group->copy()] {
                                const std::unique_ptr<Guard>& again = hosts_[primary].guard;
                                if (again == nullptr || again->group->copy() != copy) return;
                                again->up = true;
                                StartRecovery(primary, false);
                              });
    }
    case SimFault::kSessionCrash:
      if (hosts_[backup].session != nullptr) {
        power_lost_ = true;
        Bury(std::exchange(hosts_[backup].session, nullptr));
        const std::optional<Register>& truth = arbiter_.truth();
        if (owner < 0 && truth.has_value() && !HasCopy(0) && !HasCopy(1)) lost_ = true;
      }
      return;
    case SimFault::kHostCrash:
      return CrashHost(random_.Chance(2, 3) ? primary : backup);
    case SimFault::kPartition:
      network_.Cut(0, 1, now_ns + length_ns);
      return network_.Cut(1, 0, now_ns + length_ns);
    case SimFault::kOneWayOut:
      return network_.Cut(primary, backup, now_ns + length_ns);
    case SimFault::kOneWayBack:
      return network_.Cut(backup, primary, now_ns + length_ns);
    case SimFault::kFlap:
      for (int i = 0; i < 6; ++i) {
        scheduler_.After(i * length_ns / 3, [this, length_ns] {
          if (faults_over_) return;
          network_.Cut(0, 1, scheduler_.now_ns() + length_ns / 6);
          network_.Cut(1, 0, scheduler_.now_ns() + length_ns / 6);
        });
      }
      return;
    case SimFault::kArbiterCutPrimary:
      network_.Cut(primary, kArbiterHost, now_ns + length_ns);
      return network_.Cut(kArbiterHost, primary, now_ns + length_ns);
    case SimFault::kArbiterCutBackup:
      network_.Cut(backup, kArbiterHost, now_ns + length_ns);
      return network_.Cut(kArbiterHost, backup, now_ns + length_ns);
    case SimFault::kArbiterLosesAnswers:
      for_a_while(&wire.lost_request, 200);
      return for_a_while(&wire.lost_answer, 400);
    case SimFault::kGhostWrites:
      return for_a_while(&wire.ghost_write, 600);
    case SimFault::kTornWrites:
      return for_a_while(&wire.torn_write, 600);
    case SimFault::kCorruptWrites:
      return for_a_while(&wire.corrupt_write, 30);
    case SimFault::kSlowPeer:
      return for_a_while(&wire.slow_write, 300);
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
      return for_a_while(&guest.run_fails, 500);
    case SimFault::kBurst:
      if (host.guard == nullptr) return;
      for (int i = 0; i < 20; ++i) {
        for (const auto& one : host.guard->group->guests()) one->RunSlice(true);
      }
      return;
    case SimFault::kHandover:
      if (host.guard == nullptr || host.guard->engine == nullptr) return;
      if (host.guard->engine->driver().RequestHandover().ok()) host.guard->engine->Wake();
      return;
    case SimFault::kOperatorPromote:
      if (hosts_[backup].session == nullptr) return;
      if (hosts_[backup].session->driver().Promote().ok()) hosts_[backup].session->Wake();
      return;
    case SimFault::kUnprotect:
      if (host.guard == nullptr || host.guard->engine == nullptr) return;
      host.guard->engine->driver().Unprotect();
      return host.guard->engine->Wake();
    case SimFault::kCount:
      break;
  }
  HAVEN_CHECK(false) << "no such fault";
}

}  // namespace haven
