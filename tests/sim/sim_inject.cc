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
    20,  300, 300, 600, 600, 30,  200, 400, 300, 600,  // Wire and arbiter.
    400, 100, 500, 400, 150, 500, 500, 500, 300, 500,  // Guests and record.
};

}  // namespace

// A seed draws how long it is bad, how often, and which kinds there are at all.
void SimWorld::InjectFaults() {
  network_.chances().SetObserver([this](SimWireFault fault) {
    Strike(static_cast<SimFault>(kOfWire + static_cast<uint8_t>(fault)));
  });
  guests_.chances.SetObserver([this](SimGuestFault fault) {
    Strike(static_cast<SimFault>(kOfGuests + static_cast<uint8_t>(fault)));
  });
  guests_.suspend_aborted = [this] { Strike(SimFault::kSuspendAborted); };
  victim_ = static_cast<SimProcess>(seed_ % kSimProcesses);
  victim_events_ = 1 + seed_ / kSimProcesses % kVictimEvents[static_cast<size_t>(victim_)];
  faults_over_ns_ = random_.Between(1000, 5000) * kNsPerMs;
  SetAmbushes();
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
      const int owner = OwnerHost();
      Inject(fault, owner < 0 ? 0 : owner);
    });
    when_ns += random_.Between(mean_ns / 4, mean_ns * 2);
  }
}

// `host`: where the fault is at home, if it is at home on a host. May be called from the middle of
// a process' turn.
void SimWorld::Inject(SimFault fault, int host) {
  const int64_t length_ns = random_.Chance(1, 2) ? random_.Between(1, 60) * kNsPerMs
                                                 : random_.Between(60, 1500) * kNsPerMs;
  if (IsLasting(fault)) return InjectLasting(fault, length_ns);
  if (IsByChance(fault)) {
    const bool surely = random_.Chance(1, 2);
    const uint8_t kind = static_cast<uint8_t>(fault);
    // What comes surely comes again and again, so not for long.
    return InjectByChance(fault, surely ? std::min(length_ns, 30 * kNsPerMs) : length_ns,
                          surely ? 1000 : kPerMille[kind - kOfWire]);
  }
  const ProtocolStates states = States();
  if (InjectOnce(fault, host)) StrikeIn(fault, states);
}

void SimWorld::InjectLasting(SimFault fault, int64_t length_ns) {
  const int owner = OwnerHost();
  const int primary = owner < 0 ? 0 : owner;
  const int backup = 1 - primary;
  const int64_t until_ns = scheduler_.now_ns() + length_ns;
  const auto cut = [this](int one, int other, int64_t end_ns) {
    network_.Cut(one, other, end_ns);
    network_.Cut(other, one, end_ns);
  };
  int64_t& in_force_ns = in_force_until_ns_[static_cast<size_t>(fault)];
  in_force_ns = std::max(in_force_ns, until_ns);
  Strike(fault);
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

// Whether there was anything to strike.
bool SimWorld::InjectOnce(SimFault fault, int host) {
  SimEngine* const engine = EngineAt(host);
  switch (fault) {
    case SimFault::kChannelLost:
      return engine != nullptr && engine->LoseChannel();
    case SimFault::kRailFails:
      return engine != nullptr && engine->BreakData();
    case SimFault::kOldAck:
      return engine != nullptr && engine->LandOldAck();
    case SimFault::kClockJump:
      JumpClock(static_cast<int>(random_.Below(2)));
      return true;
    case SimFault::kRunFailsOnce:
      guests_.run_fails_once = 1;
      return true;
    case SimFault::kGuestShutdown:
    case SimFault::kGuestCrash:
    case SimFault::kGuestVanish:
    case SimFault::kBurst:
      return InjectGuest(fault, host);
    case SimFault::kHandover:
    case SimFault::kOperatorPromote:
    case SimFault::kUnprotect:
      // A command comes between two turns.
      scheduler_.After(0, [this, fault, host] {
        const ProtocolStates states = States();
        if (!faults_over_ && InjectOperator(fault, host)) StrikeIn(fault, states);
      });
      return false;
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
  // On whichever host there is one.
  const int other = hosts_[host].session != nullptr ? host : 1 - host;
  const std::shared_ptr<SimSession> session = hosts_[other].session;
  const std::shared_ptr<SimGuard> guard = hosts_[host].guard;
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
      if (guard == nullptr) return false;
      guard->HangUntil(until_ns);
      return true;
    case SimFault::kSessionCrash:
      return CrashSession(other);
    case SimFault::kSessionHang:
      if (session == nullptr) return false;
      session->loop().HangUntil(until_ns);
      return true;
    case SimFault::kListenerCrash:
      return CrashListener(1 - host);
    case SimFault::kPrimaryHostCrash:
      return CrashHost(host);
    case SimFault::kBackupHostCrash:
      return CrashHost(1 - host);
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
  if (hosts_[host].copy == nullptr) return false;
  SimGroup& group = *hosts_[host].copy;
  if (fault == SimFault::kBurst) {
    for (int i = 0; i < 20; ++i) {
      for (const auto& one : group.guests()) one->RunSlice(true);
    }
    return true;
  }
  SimGuest& guest = *group.guests()[random_.Below(config_.guests)];
  if (guest.ended()) return false;
  const DomainEnd shut = random_.Chance(1, 2) ? DomainEnd::kShutdown : DomainEnd::kReboot;
  guest.EndAs(fault == SimFault::kGuestShutdown ? shut
              : fault == SimFault::kGuestCrash  ? DomainEnd::kCrash
                                                : DomainEnd::kVanished);
  return true;
}

bool SimWorld::InjectOperator(SimFault fault, int host) {
  SimEngine* const engine = EngineAt(host);
  if (fault == SimFault::kOperatorPromote) {
    const std::shared_ptr<SimSession>& session = hosts_[1 - host].session;
    if (session == nullptr || session->loop().hung() || !session->driver().Promote().ok()) {
      return false;
    }
    if (!session->life().dead()) session->loop().Wake();
    return true;
  }
  if (engine == nullptr || engine->loop().hung()) return false;
  if (fault == SimFault::kHandover) {
    if (!engine->driver().RequestHandover().ok()) return false;
  } else {
    // As the engine's command does: written down before it is done.
    const bool held = hosts_[host].record->phase == GroupPhase::kProtecting;
    if (held && !SavePhase(host, GroupPhase::kEnding, engine->life()).ok()) return false;
    engine->driver().Unprotect();
  }
  engine->loop().Wake();
  return true;
}

}  // namespace haven
