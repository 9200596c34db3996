// SPDX-License-Identifier: Apache-2.0
//
// Faults that wait for a state, and what leads to the state.
#include <utility>

#include "tests/sim/sim_world.h"

namespace haven {

namespace {

using Copy = Backup::State;
using Keeper = SimGuardState;
using GuestPhase = Primary::Phase;
using Role = Primary::Role;

constexpr uint64_t kAmbushes = 3;

// One of `choices` faults in a state brings the world into others, or keeps it there for a while:
// in every world, or in one of two.
struct Way {
  ProtocolStates to;
  ProtocolState in;
  uint8_t choices;
  SimFault by[4];
  uint8_t one_of;
};
constexpr ProtocolState kAtWork = StateOf(Role::kProtected);
constexpr Way kWays[] = {
    {SetOf(Copy::kClaiming, Copy::kCuttingOff, Copy::kReading, Copy::kPreparing, Copy::kStarting,
           Copy::kRunning, Copy::kHandingBack, Copy::kEnded),
     kAtWork,
     4,
     {SimFault::kHandover, SimFault::kPartition, SimFault::kOperatorPromote,
      SimFault::kPrimaryHostCrash},
     1},
    {SetOf(Copy::kClaiming), StateOf(Copy::kClaiming), 1, {SimFault::kArbiterCutBackup}, 2},
    {SetOf(Copy::kStarting), StateOf(Copy::kStarting), 1, {SimFault::kArbiterCutBackup}, 2},
    {SetOf(Copy::kRunning), StateOf(Copy::kStarting), 1, {SimFault::kRunFails}, 2},
    {SetOf(Copy::kHandingBack),
     StateOf(Copy::kClaiming),
     2,
     {SimFault::kRevokeFails, SimFault::kPrepareFails},
     1},
    // An epoch has arrived whole and is not verified when the promotion is granted.
    {SetOf(Copy::kApplying), StateOf(Role::kArming), 1, {SimFault::kSlowPeer}, 1},
    {SetOf(Copy::kApplying), StateOf(GuestPhase::kResuming), 1, {SimFault::kOperatorPromote}, 1},
    {SetOf(Copy::kApplying), StateOf(Copy::kClaiming), 1, {SimFault::kApplyStall}, 2},
    // The primary goes on alone, and comes back to a process that is still there.
    {SetOf(Copy::kStale, Copy::kAdopting),
     kAtWork,
     2,
     {SimFault::kSessionHang, SimFault::kArbiterCutBackup},
     1},
    {SetOf(Copy::kStale, Copy::kAdopting), kAtWork, 1, {SimFault::kDataOnly}, 1},
    {SetOf(Copy::kAbandoning, Copy::kEnded, Keeper::kEnding, Role::kEnded),
     kAtWork,
     1,
     {SimFault::kUnprotect},
     2},
    {SetOf(Copy::kAbandoning), StateOf(Copy::kSyncing), 1, {SimFault::kUnprotect}, 2},
    {SetOf(Copy::kAbandoning), StateOf(Copy::kAbandoning), 1, {SimFault::kAbandonFails}, 2},
    {SetOf(Keeper::kDeposed, Keeper::kDestroying),
     kAtWork,
     3,
     {SimFault::kHandover, SimFault::kOperatorPromote, SimFault::kPartition},
     1},
    {SetOf(Keeper::kDeposed, Keeper::kDestroying),
     StateOf(Copy::kStarting),
     2,
     {SimFault::kArbiterCutPrimary, SimFault::kRecordFails},
     2},
    {SetOf(Keeper::kClaiming, Keeper::kOpening, Keeper::kPaused),
     kAtWork,
     1,
     {SimFault::kEngineCrash},
     1},
    {SetOf(Keeper::kPaused), StateOf(Keeper::kClaiming), 1, {SimFault::kArbiterCutPrimary}, 1},
    {SetOf(Keeper::kOpening), StateOf(Keeper::kClaiming), 1, {SimFault::kOutputFails}, 2},
    {SetOf(Keeper::kAbsent), kAtWork, 1, {SimFault::kGuardCrash}, 1},
    {SetOf(GuestPhase::kTakingBack),
     StateOf(GuestPhase::kStopping),
     1,
     {SimFault::kSuspendIgnored},
     1},
    {SetOf(GuestPhase::kRebuilding), StateOf(GuestPhase::kBarrier), 1, {SimFault::kOutputFails}, 1},
};

// What a fault needs to take effect in some states: another one, before or after it is there.
constexpr ProtocolState kSameState = kProtocolStates;
struct Aid {
  SimFaultSet to;
  ProtocolStates where;
  SimFault by;
  ProtocolState in;
  uint8_t one_of;
};
// A primary that does not notice what becomes of its backup.
constexpr ProtocolStates kBehindItsBack =
    SetOf(Copy::kApplying, Copy::kStarting, Copy::kRunning, Copy::kHandingBack, Copy::kStale);
constexpr ProtocolStates kAnywhere = ~ProtocolStates{0};
constexpr SimFaultSet kOfPromotion =
    FaultsOf(SimFault::kRevokeFails, SimFault::kPrepareFails, SimFault::kRunFails,
             SimFault::kRunAnswerLost, SimFault::kAbandonFails);
constexpr Aid kBefore[] = {
    {FaultsOf(SimFault::kOldAck), kAnywhere, SimFault::kRailFails, StateOf(Role::kArming), 1},
    // What is left behind by a link lands later.
    {FaultsOf(SimFault::kTornWrite), kAnywhere, SimFault::kTornWrite, kAtWork, 1},
    {FaultsOf(SimFault::kGhostWrite), kAnywhere, SimFault::kGhostWrite, kAtWork, 1},
    {~SimFaultSet{0}, kBehindItsBack, SimFault::kEngineHang, kAtWork, 4},
    {~SimFaultSet{0}, kBehindItsBack, SimFault::kEngineHang, StateOf(GuestPhase::kStopping), 4},
    {~SimFaultSet{0}, kBehindItsBack, SimFault::kArbiterCutPrimary, kAtWork, 4},
    {~SimFaultSet{0}, kBehindItsBack, SimFault::kOperatorPromote, StateOf(Copy::kStandby), 2},
};
constexpr Aid kAfter[] = {
    {kOfPromotion, ~kSessionStates, SimFault::kOperatorPromote, kSameState, 1},
    {FaultsOf(SimFault::kRecordFails), kAnywhere, SimFault::kUnprotect, kSameState, 2},
    {FaultsOf(SimFault::kRecordFails), kAnywhere, SimFault::kOperatorPromote, kSameState, 2},
    {FaultsOf(SimFault::kFalseProof), kAnywhere, SimFault::kRailFails, kSameState, 1},
    {FaultsOf(SimFault::kArbiterDenies), SetOf(Copy::kAdopting), SimFault::kUnprotect, kSameState,
     1},
};

// What has this consequence.
SimFault CauseOf(SimFault fault) {
  if (fault == SimFault::kSuspendAborted) return SimFault::kSuspendIgnored;
  return fault == SimFault::kJournalFull ? SimFault::kApplyStall : fault;
}

}  // namespace

// Rare states are met by those who wait for them: the seed names a few pairs, most often of one and
// the same state, so that over many seeds each has its turn, and something that leads to the state.
void SimWorld::SetAmbushes() {
  const std::vector<SimPair>& pairs = PairsToMeet();
  const uint64_t turns = (pairs.size() + kAmbushes - 1) / kAmbushes;
  // Another victim (which the seed names, too) each time round.
  const uint64_t turn = (seed_ + seed_ / turns) % turns;
  ProtocolStates led = 0;
  for (uint64_t i = 0; i < kAmbushes; ++i) {
    const SimPair& pair = pairs[(turn * kAmbushes + i) % pairs.size()];
    const ProtocolStates state = ProtocolStates{1} << pair.state;
    if ((std::exchange(led, led | state) & state) == 0) LeadTo(pair.state);
    const auto aided = [this, &pair](const Aid& aid) {
      if ((aid.to & FaultsOf(pair.fault)) == 0 || (aid.where >> pair.state & 1) == 0) return false;
      if (!random_.Chance(1, aid.one_of)) return false;
      Lead(aid.by, aid.in == kSameState ? pair.state : aid.in);
      return true;
    };
    for (const Aid& aid : kBefore) aided(aid);
    const size_t own = ambushes_.size();
    ambushes_.push_back({CauseOf(pair.fault), pair.state, random_.Chance(1, 2), false});
    for (const Aid& aid : kAfter) {
      if (aided(aid)) ambushes_[own].eager = true;
    }
  }
  for (const Ambush& ambush : ambushes_) ambushed_ |= ProtocolStates{1} << ambush.state;
}

void SimWorld::Lead(SimFault fault, ProtocolState state) {
  ambushes_.push_back({fault, state, random_.Chance(1, 2), /*leads=*/true});
}

// What brings the world into that state, one way or another.
void SimWorld::LeadTo(ProtocolState state) {
  for (const Way& way : kWays) {
    if ((way.to >> state & 1) == 0 || !random_.Chance(1, way.one_of)) continue;
    Lead(way.by[random_.Below(way.choices)], way.in);
  }
}

}  // namespace haven
