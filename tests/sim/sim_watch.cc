// SPDX-License-Identifier: Apache-2.0
//
// Every event of every simulated process comes by here: which states the protocol is in, which
// fault has met them, and who dies now.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

namespace {

// An ambush does not always strike at the first occasion.
constexpr uint64_t kOccasions = 3;
constexpr uint64_t kAmbushes = 3;

// What has this consequence.
SimFault CauseOf(SimFault fault) {
  if (fault == SimFault::kSuspendAborted) return SimFault::kSuspendIgnored;
  return fault == SimFault::kJournalFull ? SimFault::kApplyStall : fault;
}

}  // namespace

// The seed names a kind of process and one of its events: over many seeds each process dies at each
// of its events.
void SimWorld::OnEvent(SimProcess process, int host) {
  if (process == victim_ && victim_events_ > 0 && --victim_events_ == 0) {
    result_.crashed = true;
    Trace(absl::StrCat("host ", host, " the process that the seed names dies"));
    CrashProcess(process, host);
  }
  Look();
}

ProtocolStates SimWorld::StatesAt(int host) const {
  const Host& here = hosts_[host];
  ProtocolStates states = 0;
  if (here.session != nullptr) states |= SetOf(here.session->driver().backup().state());
  if (here.guard == nullptr) {
    return here.record.has_value() && here.session == nullptr
               ? states | SetOf(SimGuardState::kAbsent)
               : states;
  }
  if (const SimEngine* const engine = EngineAt(host)) {
    const Primary& primary = engine->driver().primary();
    return states | SetOf(primary.role()) | SetOf(primary.phase());
  }
  const SimGuardState guard = here.guard->state();
  return guard == SimGuardState::kCount ? states : states | SetOf(guard);
}

// Faults that last meet every state that comes while they do.
void SimWorld::Look() {
  const ProtocolStates states = States();
  const ProtocolStates entered = states & ~std::exchange(seen_, states);
  if (entered != 0) {
    for (size_t i = static_cast<size_t>(kFirstLasting); i < static_cast<size_t>(kFirstByChance);
         ++i) {
      const SimFault fault = static_cast<SimFault>(i);
      if (InForce(fault)) result_.coverage.Count(fault, entered);
    }
  }
  if ((states & ambushed_) == 0 || faults_over_ || looking_) return;
  looking_ = true;
  for (size_t i = 0; i < ambushes_.size(); ++i) {
    const Ambush ambush = ambushes_[i];
    const ProtocolStates state = ProtocolStates{1} << ambush.state;
    if ((States() & state) == 0 || !random_.Chance(1, kOccasions)) continue;
    ambushes_.erase(ambushes_.begin() + static_cast<ptrdiff_t>(i));
    Trace(absl::StrCat("ambush in ", ProtocolStateName(ambush.state)));
    Inject(ambush.fault, (StatesAt(0) & state) != 0 ? 0 : 1);
    break;
  }
  ambushed_ = 0;
  for (const Ambush& ambush : ambushes_) ambushed_ |= ProtocolStates{1} << ambush.state;
  looking_ = false;
}

bool SimWorld::InForce(SimFault fault) const {
  return scheduler_.now_ns() < in_force_until_ns_[static_cast<size_t>(fault)];
}

void SimWorld::Strike(SimFault fault) { StrikeIn(fault, States()); }

void SimWorld::StrikeIn(SimFault fault, ProtocolStates states) {
  result_.coverage.Count(fault, states);
  if (trace_) Trace(absl::StrCat("fault ", SimFaultName(fault)));
}

// Rare states are met by those who wait for them: the seed names a few pairs, so that over many
// seeds each has its turn, and something that leads to the state.
void SimWorld::SetAmbushes() {
  constexpr uint64_t kPairs = uint64_t{kSimFaults} * kProtocolStates;
  constexpr uint64_t kStride = 389;  // Prime to the number of pairs: neighbours are of all kinds.
  static_assert(kPairs % kStride != 0);
  for (uint64_t i = 0; i < kAmbushes; ++i) {
    const uint64_t pair = (seed_ * kAmbushes + i) * kStride % kPairs;
    const SimFault fault = static_cast<SimFault>(pair % kSimFaults);
    const ProtocolState state = static_cast<ProtocolState>(pair / kSimFaults);
    SetAmbush(CauseOf(fault), state);
    LeadTo(state);
  }
}

void SimWorld::SetAmbush(SimFault fault, ProtocolState state) {
  ambushes_.push_back({fault, state});
  ambushed_ |= ProtocolStates{1} << state;
}

// What brings the world into that state, one way or another.
void SimWorld::LeadTo(ProtocolState state) {
  using Copy = Backup::State;
  const ProtocolState protected_state = StateOf(Primary::Role::kProtected);
  const bool either = random_.Chance(1, 2);
  const ProtocolStates one = ProtocolStates{1} << state;
  const auto in = [one](ProtocolStates states) { return (one & states) != 0; };
  if (in(SetOf(Copy::kClaiming, Copy::kCuttingOff, Copy::kReading, Copy::kApplying,
               Copy::kPreparing, Copy::kStarting, Copy::kRunning, Copy::kHandingBack,
               SimGuardState::kDeposed, SimGuardState::kDestroying))) {
    SetAmbush(either                 ? SimFault::kHandover
              : random_.Chance(1, 2) ? SimFault::kPrimaryHostCrash
                                     : SimFault::kPartition,
              protected_state);
  }
  if (in(SetOf(Copy::kHandingBack))) {
    SetAmbush(either ? SimFault::kRevokeFails : SimFault::kPrepareFails, StateOf(Copy::kClaiming));
  }
  if (in(SetOf(SimGuardState::kDeposed))) {
    SetAmbush(either ? SimFault::kArbiterCutPrimary : SimFault::kRecordFails,
              StateOf(Copy::kStarting));
  }
  if (in(SetOf(Copy::kStale, Copy::kAdopting, SimGuardState::kClaiming, SimGuardState::kOpening))) {
    SetAmbush(SimFault::kEngineCrash, protected_state);
  }
  if (in(SetOf(SimGuardState::kPaused))) {
    SetAmbush(SimFault::kArbiterCutPrimary, StateOf(SimGuardState::kClaiming));
    SetAmbush(SimFault::kEngineCrash, protected_state);
  }
  if (in(SetOf(SimGuardState::kAbsent))) SetAmbush(SimFault::kGuardCrash, protected_state);
  if (in(SetOf(Copy::kAbandoning, SimGuardState::kEnding, Primary::Role::kEnded))) {
    SetAmbush(SimFault::kUnprotect, protected_state);
  }
  if (in(SetOf(Primary::Phase::kTakingBack))) {
    SetAmbush(SimFault::kSuspendIgnored, StateOf(Primary::Phase::kStopping));
  }
  if (in(SetOf(Primary::Phase::kRebuilding))) {
    SetAmbush(SimFault::kOutputFails, StateOf(Primary::Phase::kBarrier));
  }
}

}  // namespace haven
