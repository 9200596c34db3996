// SPDX-License-Identifier: Apache-2.0
//
// What happens to a world, and when.
#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

namespace {

// A process dies at each of its first so many events, in one seed or another. By SimProcess.
constexpr std::array<uint64_t, kSimProcesses> kVictimEvents = {2000, 150, 1500, 40};

// SimFault lists what comes by chance in the order of these two enumerations.
constexpr uint8_t kOfWire = static_cast<uint8_t>(SimFault::kLostWrite);
constexpr uint8_t kOfGuests = static_cast<uint8_t>(SimFault::kFetchFails);
static_assert(kOfGuests - kOfWire == static_cast<uint8_t>(SimWireFault::kCount));
static_assert(static_cast<uint8_t>(kFirstConsequence) - kOfGuests ==
              static_cast<uint8_t>(SimGuestFault::kCount));

// How often each comes, out of 1000 opportunities, while it may.
constexpr std::array<uint32_t, static_cast<size_t>(kFirstConsequence) - kOfWire> kPerMille = {
    20,  300, 300, 600, 600, 30,  200, 400, 300, 600,       // Wire and arbiter.
    400, 100, 500, 400, 150, 500, 500, 500, 300, 500, 500,  // Guests, record and peer.
};

}  // namespace

// A seed draws how long it is bad, how often, and which kinds there are at all.
void SimWorld::InjectFaults() {
  network_.chances().SetObserver([this](SimWireFault fault) {
    StrikeIn(static_cast<SimFault>(kOfWire + static_cast<uint8_t>(fault)), States());
  });
  guests_.chances.SetObserver([this](SimGuestFault fault) {
    StrikeIn(static_cast<SimFault>(kOfGuests + static_cast<uint8_t>(fault)), StatesNear(actor_));
  });
  guests_.suspend_aborted = [this] { StrikeIn(SimFault::kSuspendAborted, StatesNear(actor_)); };
  victim_ = static_cast<SimProcess>(seed_ % kSimProcesses);
  victim_events_ = 1 + seed_ / kSimProcesses % kVictimEvents[static_cast<size_t>(victim_)];
  faults_over_ns_ = random_.Between(1000, 5000) * kNsPerMs;
  SetAmbushes();
  if (config_.copies_lost) LoseCopies();
  if (guests_.meddler.has_value()) Meddle();
  const int64_t mean_ns = random_.Between(20, 400) * kNsPerMs;
  std::vector<SimFault> kinds;
  // In some worlds only the process that the seed names and the ambushes.
  const bool quiet = random_.Chance(1, 3);
  for (uint8_t i = 0; !quiet && i < static_cast<uint8_t>(kFirstConsequence); ++i) {
    if (random_.Chance(1, 5)) kinds.push_back(static_cast<SimFault>(i));
  }
  if (kinds.empty()) return;
  int64_t when_ns = random_.Between(0, 400) * kNsPerMs;
  while (when_ns < faults_over_ns_) {
    const SimFault fault = kinds[random_.Below(kinds.size())];
    scheduler_.At(when_ns, [this, fault] {
      if (faults_over_) return;
      Inject(fault, PrimaryHost(), /*leads=*/false);
    });
    when_ns += random_.Between(mean_ns / 4, mean_ns * 2);
  }
}

// Whether there was anything to strike. `near`: the host to look at first, if the fault is at home
// on a host. `leads`: it is to last. May be called from the middle of a process' turn.
bool SimWorld::Inject(SimFault fault, int near, bool leads) {
  // The clock that jumps is any host's.
  if (fault == SimFault::kClockJump) near = random_.Chance(1, 2) ? near : 1 - near;
  const int64_t length_ns = leads                  ? random_.Between(60, 300) * kNsPerMs
                            : random_.Chance(1, 2) ? random_.Between(1, 60) * kNsPerMs
                                                   : random_.Between(60, 1500) * kNsPerMs;
  if (IsLasting(fault)) {
    InjectLasting(fault, leads ? length_ns * 5 : length_ns);
    return true;
  }
  if (IsByChance(fault)) {
    const bool surely = leads || random_.Chance(1, 2);
    const uint8_t kind = static_cast<uint8_t>(fault);
    // What comes surely comes again and again, so not for long.
    const bool shorter = surely && !leads;
    InjectByChance(fault, shorter ? std::min(length_ns, 30 * kNsPerMs) : length_ns,
                   surely ? 1000 : kPerMille[kind - kOfWire]);
    return true;
  }
  return InjectOnce(fault, near) || InjectOnce(fault, 1 - near);
}

void SimWorld::InjectLasting(SimFault fault, int64_t length_ns) {
  const int primary = PrimaryHost();
  const int backup = 1 - primary;
  const int64_t until_ns = scheduler_.now_ns() + length_ns;
  const auto cut = [this](int one, int other, int64_t end_ns) {
    network_.Cut(one, other, end_ns);
    network_.Cut(other, one, end_ns);
  };
  int64_t& in_force_ns = in_force_until_ns_[static_cast<size_t>(fault)];
  in_force_ns = std::max(in_force_ns, until_ns);
  StrikeIn(fault, States());
  switch (fault) {
    case SimFault::kPartition:
      return cut(0, 1, until_ns);
    case SimFault::kOneWayOut:
      return network_.Cut(primary, backup, until_ns);
    case SimFault::kOneWayBack:
      return network_.Cut(backup, primary, until_ns);
    case SimFault::kFlap:
      for (int i = 0; i < 6; ++i) {
        scheduler_.After(i * length_ns / 6, [this, cut, length_ns] {
          if (!faults_over_) cut(0, 1, scheduler_.now_ns() + length_ns / 12);
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
    default:  // kSlowPeer, kApplyStall.
      SlowSessions();
      return scheduler_.After(length_ns, [this] { SlowSessions(); });
  }
}

// As long as they are slow or stalled.
void SimWorld::SlowSessions() {
  constexpr int64_t kStallNs = 3600 * kNsPerSecond;
  for (const Host& host : hosts_) {
    if (host.session == nullptr || host.session->life().dead()) continue;
    host.session->SetDelays(InForce(SimFault::kSlowPeer) ? config_.slow_turn_ns : 0,
                            InForce(SimFault::kApplyStall) ? kStallNs : config_.apply_delay_ns);
  }
}

void SimWorld::InjectByChance(SimFault fault, int64_t length_ns, uint32_t per_mille) {
  const uint8_t kind = static_cast<uint8_t>(fault);
  if (kind < kOfGuests) {
    const SimWireFault wire = static_cast<SimWireFault>(kind - kOfWire);
    network_.chances().Set(wire, per_mille);
    scheduler_.After(length_ns, [this, wire] { network_.chances().Set(wire, 0); });
    if (fault != SimFault::kTornWrite && fault != SimFault::kGhostWrite) return;
    // They are what a failure leaves behind.
    network_.chances().Set(SimWireFault::kLostWrite, 100);
    return scheduler_.After(length_ns,
                            [this] { network_.chances().Set(SimWireFault::kLostWrite, 0); });
  }
  const SimGuestFault guest = static_cast<SimGuestFault>(kind - kOfGuests);
  guests_.chances.Set(guest, per_mille);
  scheduler_.After(length_ns, [this, guest] { guests_.chances.Set(guest, 0); });
}

// Whether there was anything to strike on this host.
bool SimWorld::InjectOnce(SimFault fault, int host) {
  if (IsCommand(fault)) {
    if (!HasServer(fault, host)) return false;
    // It comes between two turns.
    scheduler_.After(0, [this, fault, host] {
      if (faults_over_ || !HasServer(fault, host)) return;
      StrikeIn(fault, StatesNear(host));
      InjectOperator(fault, host);
    });
    return true;
  }
  const ProtocolStates states = StatesNear(host);
  if (!InjectHere(fault, host)) return false;
  StrikeIn(fault, states);
  return true;
}

bool SimWorld::InjectHere(SimFault fault, int host) {
  SimEngine* const engine = EngineAt(host);
  switch (fault) {
    case SimFault::kChannelLost:
      return engine != nullptr && engine->LoseChannel();
    case SimFault::kRailFails:
      return engine != nullptr && engine->BreakData();
    case SimFault::kOldAck:
      return engine != nullptr && engine->LandOldAck();
    case SimFault::kClockJump:
      JumpClock(host);
      return true;
    case SimFault::kGuestShutdown:
    case SimFault::kGuestCrash:
    case SimFault::kGuestVanish:
    case SimFault::kBurst:
      return InjectGuest(fault, host);
    default:
      return InjectProcess(fault, host);
  }
}

// Timers of a clock that has jumped over them are due at once.
void SimWorld::JumpClock(int host) {
  hosts_[host].clock->JumpNs(random_.Between(1, 400) * kNsPerMs);
  if (EngineAt(host) != nullptr) EngineAt(host)->loop().Wake();
  if (hosts_[host].session != nullptr) hosts_[host].session->loop().Wake();
  if (hosts_[host].guard != nullptr) hosts_[host].guard->Wake();
}

bool SimWorld::InjectProcess(SimFault fault, int host) {
  const Host& here = hosts_[host];
  const int64_t until_ns = scheduler_.now_ns() + random_.Between(20, 1500) * kNsPerMs;
  switch (fault) {
    case SimFault::kEngineCrash:
      return CrashEngine(host);
    case SimFault::kEngineHang:
      if (EngineAt(host) == nullptr) return false;
      HangEngine(host, until_ns);
      return true;
    case SimFault::kGuardCrash:
      return CrashGuard(host);
    case SimFault::kGuardHang:
      if (here.guard == nullptr) return false;
      here.guard->HangUntil(until_ns);
      return true;
    case SimFault::kSessionCrash:
      return CrashSession(host);
    case SimFault::kSessionHang:
      if (here.session == nullptr) return false;
      here.session->loop().HangUntil(until_ns);
      return true;
    case SimFault::kListenerCrash:
      return here.copy == nullptr && CrashListener(host);
    case SimFault::kPrimaryHostCrash:
      return here.copy != nullptr && CrashHost(host);
    case SimFault::kBackupHostCrash:
      return here.copy == nullptr && CrashHost(host);
    default:
      return false;
  }
}

// A guard kills an engine that has not vouched for itself for long.
void SimWorld::HangEngine(int host, int64_t until_ns) {
  SimEngine* const engine = EngineAt(host);
  engine->loop().HangUntil(until_ns);
  scheduler_.After(config_.hang_ns, [this, host, hung = engine->weak_from_this()] {
    const std::shared_ptr<SimEngine> same = hung.lock();
    if (same == nullptr || EngineAt(host) != same.get() || !same->loop().hung()) return;
    Trace(absl::StrCat("host ", host, " guard: the engine hangs: killing it"));
    CrashEngine(host);
  });
}

bool SimWorld::InjectGuest(SimFault fault, int host) {
  // A copy that has not run does nothing by itself.
  if (hosts_[host].copy == nullptr || hosts_[host].unrun.has_value()) return false;
  SimGroup& group = *hosts_[host].copy;
  if (fault == SimFault::kBurst) {
    if (group.AllToldStopped()) return false;
    for (int i = 0; i < 20; ++i) {
      for (const auto& one : group.guests()) one->RunSlice(true);
    }
    return true;
  }
  const DomainEnd shut = random_.Chance(1, 2) ? DomainEnd::kShutdown : DomainEnd::kReboot;
  const DomainEnd end = fault == SimFault::kGuestShutdown ? shut
                        : fault == SimFault::kGuestCrash  ? DomainEnd::kCrash
                                                          : DomainEnd::kVanished;
  if (random_.Chance(1, 3)) {
    if (group.AllEnded()) return false;
    for (const auto& one : group.guests()) one->EndAs(end);
    return true;
  }
  SimGuest& guest = *group.guests()[random_.Below(config_.guests)];
  if (guest.ended()) return false;
  guest.EndAs(end);
  return true;
}

// Whether a process is there that takes an operator's command.
bool SimWorld::HasServer(SimFault command, int host) const {
  if (command == SimFault::kOperatorPromote) {
    return hosts_[host].session != nullptr && !hosts_[host].session->loop().hung();
  }
  SimEngine* const engine = EngineAt(host);
  return engine != nullptr && !engine->loop().hung() &&
         engine->driver().primary().end() == PrimaryEnd::kNotYet;
}

// Whatever becomes of the command: it may come at a bad moment.
void SimWorld::InjectOperator(SimFault fault, int host) {
  if (fault == SimFault::kOperatorPromote) {
    const std::shared_ptr<SimSession> session = hosts_[host].session;
    session->driver().Promote().IgnoreError();
    if (!session->life().dead()) session->loop().Wake();
    return;
  }
  SimEngine& engine = *EngineAt(host);
  if (fault == SimFault::kHandover) {
    engine.driver().RequestHandover().IgnoreError();
  } else {
    // As the engine's command does: written down before it is done.
    actor_ = host;
    const bool held = hosts_[host].record->phase == GroupPhase::kProtecting;
    if (held && !SavePhase(host, GroupPhase::kEnding, engine.life()).ok()) return;
    engine.driver().Unprotect();
  }
  engine.loop().Wake();
}

}  // namespace haven
