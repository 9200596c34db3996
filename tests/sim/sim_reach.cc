// SPDX-License-Identifier: Apache-2.0
//
// Which faults and states can not meet, by rules, and what else a long run must show.
#include <algorithm>
#include <iterator>

#include "tests/sim/sim_coverage.h"

namespace haven {

namespace {

using Copy = Backup::State;
using Keeper = SimGuardState;
using Phase = Primary::Phase;
using Role = Primary::Role;

// Faults, by where they are at home.
constexpr SimFaultSet kCommands =
    FaultsOf(SimFault::kHandover, SimFault::kOperatorPromote, SimFault::kUnprotect);
constexpr SimFaultSet kLink = FaultsOf(SimFault::kRailFails, SimFault::kOldAck);
constexpr SimFaultSet kCarried = FaultsOf(SimFault::kLostWrite, SimFault::kLateWrite,
                                          SimFault::kPartialWrite, SimFault::kCorruptWrite);
constexpr SimFaultSet kLeftBehind = FaultsOf(SimFault::kTornWrite, SimFault::kGhostWrite);
constexpr SimFaultSet kCapture =
    FaultsOf(SimFault::kFetchFails, SimFault::kLogLost, SimFault::kCaptureFails);
constexpr SimFaultSet kSuspend = FaultsOf(SimFault::kSuspendIgnored, SimFault::kSuspendAborted);
constexpr SimFaultSet kRun = FaultsOf(SimFault::kRunFails, SimFault::kRunAnswerLost);
constexpr SimFaultSet kPromotion = FaultsOf(SimFault::kRevokeFails, SimFault::kPrepareFails) | kRun;
constexpr SimFaultSet kEngine =
    FaultsOf(SimFault::kEngineCrash, SimFault::kEngineHang, SimFault::kChannelLost,
             SimFault::kHandover, SimFault::kUnprotect, SimFault::kJournalFull) |
    kLink | kCapture;
constexpr SimFaultSet kSession =
    FaultsOf(SimFault::kSessionCrash, SimFault::kSessionHang, SimFault::kOperatorPromote,
             SimFault::kAbandonFails, SimFault::kFalseProof) |
    kPromotion;
constexpr SimFaultSet kBetweenTurns =
    kCommands | kCarried | kLeftBehind |
    FaultsOf(SimFault::kArbiterLosesAnswer, SimFault::kArbiterDenies);
constexpr SimFaultSet kOfGuests =
    FaultsOf(SimFault::kFetchFails, SimFault::kLogLost, SimFault::kSuspendIgnored,
             SimFault::kCaptureFails, SimFault::kOutputFails) |
    FaultsOf(SimFault::kSuspendAborted, SimFault::kJournalFull);

// States that last for a part of one turn of the process that is in them.
constexpr ProtocolStates kEngineTurn =
    SetOf(Phase::kHolding, Phase::kBarrier, Phase::kCapturing, Phase::kRebuilding);
constexpr ProtocolStates kSessionTurn =
    SetOf(Copy::kWaiting, Copy::kCuttingOff, Copy::kReading, Copy::kPreparing, Copy::kEnded);
constexpr ProtocolStates kGuards =
    SetOf(Keeper::kClaiming, Keeper::kPaused, Keeper::kDeposed, Keeper::kDestroying,
          Keeper::kOpening, Keeper::kEnding, Keeper::kAbsent);
constexpr ProtocolStates kPhases =
    kEngineTurn |
    SetOf(Phase::kRunning, Phase::kStopping, Phase::kTakingBack, Phase::kStopped, Phase::kResuming);
// After the cut-off.
constexpr ProtocolStates kCutOff = SetOf(Copy::kReading, Copy::kApplying, Copy::kPreparing,
                                         Copy::kStarting, Copy::kRunning, Copy::kHandingBack);

struct Rule {
  SimFaultSet faults;
  ProtocolStates states;
  const char* why;
};

constexpr Rule kRules[] = {
    {kBetweenTurns, kEngineTurn | kSessionTurn,
     "the fault comes between two turns, and the state lasts for a part of one"},
    {kOfGuests, kSessionTurn, "the fault comes in the engine's turn, the state in the session's"},
    {(kSession & ~FaultsOf(SimFault::kSessionCrash, SimFault::kSessionHang)) |
         FaultsOf(SimFault::kRecordFails),
     kEngineTurn, "the fault comes in the session's turn, the state in the engine's"},
    {FaultsOf(SimFault::kRecordFails), kSessionTurn & ~SetOf(Copy::kPreparing),
     "a session writes the record before a copy can run here, at no other time"},
    {FaultsOf(SimFault::kArbiterLosesRequest), kSessionTurn, "the session asks nothing then"},

    {kSession | kLink | kCarried | kLeftBehind | kCapture | kSuspend |
         FaultsOf(SimFault::kChannelLost, SimFault::kOutputFails, SimFault::kRecordFails,
                  SimFault::kJournalFull),
     SetOf(Role::kStarting), "there is no register yet, so nobody has a session"},
    {kEngine, kGuards, "the fault is an engine's, and this guard has none"},
    {FaultsOf(SimFault::kGuardCrash, SimFault::kGuardHang), SetOf(Keeper::kAbsent),
     "there is no guard"},
    {FaultsOf(SimFault::kHandover, SimFault::kUnprotect), SetOf(Role::kEnded),
     "an engine that has ended takes no command"},
    {FaultsOf(SimFault::kBurst), SetOf(Phase::kStopped) | kEngineTurn, "all guests stand still"},

    {FaultsOf(SimFault::kChannelLost) | kLink, SetOf(Copy::kWaiting, Copy::kAdopting),
     "whoever asks for a session has none"},
    {kLink | kCarried, SetOf(Role::kUnprotected, Role::kEnded),
     "the link is closed before the role changes"},
    {kCarried, kGuards & ~SetOf(Keeper::kAbsent), "the link went with the engine"},
    {kCarried, kCutOff | SetOf(Copy::kAdopting, Copy::kStale, Copy::kAbandoning),
     "the session has no link"},
    {kLeftBehind, SetOf(Keeper::kDestroying), "the link was cut off before the copy could run"},

    {kCapture | FaultsOf(SimFault::kJournalFull),
     SetOf(Role::kUnprotected, Role::kEnded, Copy::kAdopting), "the engine has no session"},
    {FaultsOf(SimFault::kFetchFails, SimFault::kLogLost),
     kPhases & ~SetOf(Phase::kRunning, Phase::kCapturing),
     "the log is looked at for a live round, for the mark, or for a checkpoint"},
    {FaultsOf(SimFault::kCaptureFails), kPhases & ~SetOf(Phase::kCapturing),
     "state is captured for a checkpoint"},
    {FaultsOf(SimFault::kJournalFull), kEngineTurn, "no epoch waits for room then"},
    {FaultsOf(SimFault::kSuspendIgnored), kPhases & ~SetOf(Phase::kStopping),
     "guests are asked to stop in `stopping`"},
    {FaultsOf(SimFault::kSuspendIgnored), SetOf(Role::kUnprotected, Role::kEnded),
     "they are let run"},
    {FaultsOf(SimFault::kSuspendIgnored), kGuards & ~SetOf(Keeper::kPaused, Keeper::kDeposed),
     "a guard stops guests that nobody owns for certain"},
    {FaultsOf(SimFault::kSuspendAborted),
     (kPhases & ~SetOf(Phase::kTakingBack, Phase::kResuming)) | SetOf(Role::kEnded),
     "guests are let run in `taking back` and `resuming`"},
    {FaultsOf(SimFault::kSuspendAborted), kGuards & ~SetOf(Keeper::kClaiming, Keeper::kEnding),
     "a guard lets guests run when it begins, when it is granted the group, and at the end"},
    {FaultsOf(SimFault::kOutputFails), SetOf(Role::kEnded), "the guard has the output then"},
    {FaultsOf(SimFault::kOutputFails), kGuards & ~SetOf(Keeper::kOpening, Keeper::kEnding),
     "the output stays as it is until the arbiter has spoken"},
    {FaultsOf(SimFault::kOutputFails), SetOf(Copy::kAdopting),
     "an engine whose output is not open yet does not look for a backup"},

    {FaultsOf(SimFault::kRevokeFails), kSessionStates & ~SetOf(Copy::kCuttingOff),
     "links are revoked in `cutting off`"},
    {FaultsOf(SimFault::kPrepareFails), kSessionStates & ~SetOf(Copy::kPreparing),
     "copies are prepared in `preparing`"},
    {kRun, kSessionStates & ~SetOf(Copy::kRunning), "copies are started in `running`"},
    {FaultsOf(SimFault::kAbandonFails),
     kSessionStates & ~SetOf(Copy::kHandingBack, Copy::kAbandoning),
     "copies are destroyed in `handing back` and `abandoning`"},
    {FaultsOf(SimFault::kFalseProof),
     kSessionStates & ~SetOf(Copy::kSyncing, Copy::kStandby, Copy::kClaiming),
     "links are offered to whoever may still commit"},
    {kPromotion, SetOf(Role::kSyncing), "what is being filled is not promoted"},
    {kRun, SetOf(Keeper::kOpening),
     "the term is this guard's: a promotion that it was taken back from does not get so far"},
    {kPromotion, SetOf(Keeper::kEnding),
     "the term is this guard's, so the backup's claim was denied"},
    {kRun, SetOf(Role::kUnprotected), "the copy that is being started owns the group for good"},
    {FaultsOf(SimFault::kRevokeFails, SimFault::kPrepareFails, SimFault::kAbandonFails,
              SimFault::kFalseProof),
     SetOf(Keeper::kDestroying), "the other copy runs, or is being started"},

    {FaultsOf(SimFault::kArbiterDenies), SetOf(Role::kSyncing, Copy::kRunning),
     "nobody asks for a change of what the register holds"},
    {FaultsOf(SimFault::kArbiterDenies), SetOf(Keeper::kOpening, Keeper::kEnding),
     "the register was changed just now: no older request matches it"},
    {FaultsOf(SimFault::kRecordFails), SetOf(Keeper::kEnding),
     "nothing is written down between the end and the removal of the record"},
};

// Met seldom, and not demanded: the state lasts for a moment only, or the fault takes effect in it
// only if others came just before (a guest that is being resumed and a promotion; a hung engine and
// a replica that is being applied; links of a process that has just died). By state, as 20,000
// seeds have met them fewer than 15 times.
constexpr struct {
  SimFaultSet faults;
  ProtocolStates states;
} kSeldom[] = {
    {FaultsOf(SimFault::kChannelLost, SimFault::kTornWrite, SimFault::kGhostWrite,
              SimFault::kArbiterDenies, SimFault::kRevokeFails, SimFault::kPrepareFails,
              SimFault::kRunFails, SimFault::kRunAnswerLost, SimFault::kRecordFails,
              SimFault::kFalseProof),
     SetOf(Role::kEnded)},
    {FaultsOf(SimFault::kArbiterLosesAnswer, SimFault::kArbiterDenies, SimFault::kAbandonFails),
     SetOf(Role::kSyncing)},
    {FaultsOf(SimFault::kRevokeFails, SimFault::kPrepareFails, SimFault::kFalseProof),
     SetOf(Role::kUnprotected)},
    {FaultsOf(SimFault::kRevokeFails, SimFault::kPrepareFails, SimFault::kRunFails,
              SimFault::kRunAnswerLost, SimFault::kAbandonFails, SimFault::kFalseProof,
              SimFault::kSuspendAborted),
     SetOf(Role::kArming)},
    {FaultsOf(SimFault::kGuardHang, SimFault::kSessionCrash, SimFault::kOldAck, SimFault::kBurst,
              SimFault::kHandover, SimFault::kOperatorPromote, SimFault::kUnprotect,
              SimFault::kLostWrite, SimFault::kLateWrite, SimFault::kPartialWrite,
              SimFault::kTornWrite, SimFault::kGhostWrite, SimFault::kCorruptWrite,
              SimFault::kArbiterLosesRequest, SimFault::kArbiterLosesAnswer,
              SimFault::kArbiterDenies, SimFault::kRevokeFails, SimFault::kOutputFails,
              SimFault::kPrepareFails, SimFault::kRunFails, SimFault::kRunAnswerLost,
              SimFault::kAbandonFails, SimFault::kRecordFails, SimFault::kFalseProof,
              SimFault::kJournalFull),
     SetOf(Phase::kTakingBack)},
    {FaultsOf(SimFault::kGuardHang, SimFault::kSessionHang, SimFault::kListenerCrash,
              SimFault::kBackupHostCrash, SimFault::kChannelLost, SimFault::kOldAck,
              SimFault::kClockJump, SimFault::kGuestVanish, SimFault::kOneWayOut,
              SimFault::kOneWayBack, SimFault::kBeatsOnly, SimFault::kArbiterLosesRequest),
     SetOf(Phase::kRebuilding)},
    {FaultsOf(SimFault::kOldAck, SimFault::kArbiterLosesRequest), SetOf(Phase::kHolding)},
    {FaultsOf(SimFault::kGhostWrite, SimFault::kRevokeFails, SimFault::kPrepareFails,
              SimFault::kRunAnswerLost, SimFault::kAbandonFails, SimFault::kFalseProof,
              SimFault::kJournalFull),
     SetOf(Phase::kResuming)},
    {FaultsOf(SimFault::kArbiterLosesRequest), SetOf(Phase::kBarrier)},
    {FaultsOf(SimFault::kArbiterLosesRequest, SimFault::kOutputFails), SetOf(Phase::kCapturing)},
    {FaultsOf(SimFault::kOutputFails, SimFault::kRunAnswerLost, SimFault::kAbandonFails,
              SimFault::kFalseProof),
     SetOf(Phase::kStopping)},
    {FaultsOf(SimFault::kAbandonFails, SimFault::kFalseProof), SetOf(Phase::kStopped)},
    {FaultsOf(SimFault::kEngineCrash, SimFault::kEngineHang, SimFault::kSessionHang,
              SimFault::kBackupHostCrash, SimFault::kRailFails, SimFault::kOldAck,
              SimFault::kGuestShutdown, SimFault::kGuestCrash, SimFault::kBurst,
              SimFault::kHandover, SimFault::kOperatorPromote, SimFault::kUnprotect,
              SimFault::kTornWrite, SimFault::kGhostWrite, SimFault::kArbiterLosesRequest,
              SimFault::kArbiterLosesAnswer, SimFault::kArbiterDenies, SimFault::kFetchFails,
              SimFault::kLogLost, SimFault::kSuspendIgnored, SimFault::kCaptureFails,
              SimFault::kOutputFails, SimFault::kRecordFails, SimFault::kSuspendAborted,
              SimFault::kJournalFull),
     SetOf(Copy::kApplying)},
    {FaultsOf(SimFault::kEngineCrash, SimFault::kEngineHang, SimFault::kGuardHang,
              SimFault::kChannelLost, SimFault::kRailFails, SimFault::kOldAck,
              SimFault::kGuestVanish, SimFault::kBurst),
     SetOf(Copy::kPreparing)},
    {FaultsOf(SimFault::kEngineCrash, SimFault::kEngineHang, SimFault::kChannelLost,
              SimFault::kRailFails, SimFault::kOldAck, SimFault::kBurst, SimFault::kHandover,
              SimFault::kUnprotect, SimFault::kTornWrite, SimFault::kGhostWrite,
              SimFault::kArbiterLosesRequest, SimFault::kArbiterLosesAnswer, SimFault::kFetchFails,
              SimFault::kLogLost, SimFault::kSuspendIgnored, SimFault::kCaptureFails,
              SimFault::kOutputFails, SimFault::kRecordFails, SimFault::kSuspendAborted),
     SetOf(Copy::kRunning)},
    {FaultsOf(SimFault::kEngineCrash, SimFault::kGuardCrash, SimFault::kGuardHang,
              SimFault::kListenerCrash, SimFault::kPrimaryHostCrash, SimFault::kChannelLost,
              SimFault::kRailFails, SimFault::kOldAck, SimFault::kGuestCrash,
              SimFault::kGuestVanish, SimFault::kBurst),
     SetOf(Copy::kEnded)},
    {FaultsOf(SimFault::kEngineHang, SimFault::kPrimaryHostCrash, SimFault::kBackupHostCrash,
              SimFault::kClockJump, SimFault::kGuestShutdown, SimFault::kGuestCrash,
              SimFault::kGuestVanish, SimFault::kTornWrite, SimFault::kGhostWrite,
              SimFault::kArbiterDenies, SimFault::kSuspendIgnored, SimFault::kOutputFails,
              SimFault::kRecordFails, SimFault::kSuspendAborted),
     SetOf(Copy::kAdopting)},
    {FaultsOf(SimFault::kEngineHang, SimFault::kGuardCrash, SimFault::kSessionHang,
              SimFault::kPrimaryHostCrash, SimFault::kBackupHostCrash, SimFault::kRailFails,
              SimFault::kOldAck, SimFault::kGuestShutdown, SimFault::kGuestCrash, SimFault::kBurst),
     SetOf(Copy::kReading)},
    {FaultsOf(SimFault::kEngineHang, SimFault::kSessionHang, SimFault::kOldAck,
              SimFault::kGuestCrash, SimFault::kBurst, SimFault::kHandover, SimFault::kTornWrite,
              SimFault::kGhostWrite, SimFault::kLogLost, SimFault::kSuspendIgnored,
              SimFault::kCaptureFails, SimFault::kOutputFails, SimFault::kSuspendAborted),
     SetOf(Copy::kHandingBack)},
    {FaultsOf(SimFault::kEngineHang, SimFault::kSessionHang, SimFault::kChannelLost,
              SimFault::kRailFails, SimFault::kOldAck, SimFault::kGuestCrash, SimFault::kBurst,
              SimFault::kHandover, SimFault::kUnprotect, SimFault::kTornWrite,
              SimFault::kGhostWrite, SimFault::kArbiterLosesRequest, SimFault::kArbiterLosesAnswer,
              SimFault::kArbiterDenies, SimFault::kFetchFails, SimFault::kLogLost,
              SimFault::kSuspendIgnored, SimFault::kCaptureFails, SimFault::kOutputFails,
              SimFault::kRecordFails, SimFault::kSuspendAborted, SimFault::kJournalFull),
     SetOf(Copy::kAbandoning)},
    {FaultsOf(SimFault::kGuardHang, SimFault::kListenerCrash, SimFault::kChannelLost,
              SimFault::kOldAck, SimFault::kGuestCrash, SimFault::kGuestVanish),
     SetOf(Copy::kCuttingOff)},
    {FaultsOf(SimFault::kChannelLost, SimFault::kOldAck, SimFault::kTornWrite,
              SimFault::kGhostWrite, SimFault::kCaptureFails),
     SetOf(Copy::kStale)},
    {FaultsOf(SimFault::kOldAck, SimFault::kBurst, SimFault::kTornWrite, SimFault::kGhostWrite,
              SimFault::kLogLost, SimFault::kCaptureFails, SimFault::kOutputFails,
              SimFault::kSuspendAborted),
     SetOf(Copy::kStarting)},
    {FaultsOf(SimFault::kFalseProof, SimFault::kSuspendAborted), SetOf(Copy::kClaiming)},
    {FaultsOf(SimFault::kSessionCrash, SimFault::kSessionHang, SimFault::kPrimaryHostCrash,
              SimFault::kBackupHostCrash, SimFault::kGuestShutdown, SimFault::kGuestCrash,
              SimFault::kBurst, SimFault::kOperatorPromote, SimFault::kTornWrite,
              SimFault::kGhostWrite, SimFault::kArbiterLosesRequest, SimFault::kArbiterLosesAnswer,
              SimFault::kArbiterDenies, SimFault::kRevokeFails, SimFault::kSuspendIgnored,
              SimFault::kPrepareFails, SimFault::kRunFails, SimFault::kRunAnswerLost,
              SimFault::kAbandonFails, SimFault::kRecordFails, SimFault::kFalseProof),
     SetOf(Keeper::kPaused)},
    {FaultsOf(SimFault::kSessionCrash, SimFault::kSessionHang, SimFault::kListenerCrash,
              SimFault::kBackupHostCrash, SimFault::kBurst, SimFault::kOperatorPromote,
              SimFault::kArbiterLosesRequest, SimFault::kArbiterLosesAnswer,
              SimFault::kArbiterDenies, SimFault::kRunFails, SimFault::kRunAnswerLost),
     SetOf(Keeper::kDestroying)},
    {FaultsOf(SimFault::kSessionCrash, SimFault::kSessionHang, SimFault::kBackupHostCrash,
              SimFault::kGuestShutdown, SimFault::kGuestCrash, SimFault::kBurst,
              SimFault::kOperatorPromote, SimFault::kTornWrite, SimFault::kGhostWrite,
              SimFault::kArbiterLosesRequest, SimFault::kArbiterLosesAnswer,
              SimFault::kAbandonFails, SimFault::kFalseProof, SimFault::kSuspendAborted),
     SetOf(Keeper::kEnding)},
    {FaultsOf(SimFault::kSessionHang, SimFault::kBurst, SimFault::kTornWrite, SimFault::kGhostWrite,
              SimFault::kArbiterDenies, SimFault::kRevokeFails, SimFault::kPrepareFails,
              SimFault::kRunAnswerLost, SimFault::kAbandonFails, SimFault::kFalseProof,
              SimFault::kSuspendAborted),
     SetOf(Keeper::kDeposed)},
    {FaultsOf(SimFault::kTornWrite, SimFault::kGhostWrite, SimFault::kPrepareFails,
              SimFault::kRecordFails, SimFault::kFalseProof),
     SetOf(Keeper::kClaiming)},
    // Of a promotion so slow that the term was taken back from it.
    {FaultsOf(SimFault::kRevokeFails, SimFault::kPrepareFails), SetOf(Keeper::kOpening)},
    {FaultsOf(SimFault::kTornWrite, SimFault::kGhostWrite, SimFault::kArbiterLosesRequest,
              SimFault::kArbiterLosesAnswer, SimFault::kAbandonFails, SimFault::kFalseProof),
     SetOf(Keeper::kOpening)},
    {kCarried | FaultsOf(SimFault::kGhostWrite, SimFault::kFalseProof), SetOf(Keeper::kAbsent)},
};

}  // namespace

const char* WhyNever(SimFault fault, ProtocolState state) {
  for (const Rule& rule : kRules) {
    if ((rule.faults & FaultsOf(fault)) != 0 && (rule.states >> state & 1) != 0) return rule.why;
  }
  return nullptr;
}

bool MetSeldom(SimFault fault, ProtocolState state) {
  return std::any_of(std::begin(kSeldom), std::end(kSeldom), [fault, state](const auto& row) {
    return (row.faults & FaultsOf(fault)) != 0 && (row.states >> state & 1) != 0;
  });
}

const std::vector<SimPair>& PairsToMeet() {
  static const std::vector<SimPair>* const kPairs = [] {
    auto* const pairs = new std::vector<SimPair>;
    for (ProtocolState state = 0; state < kProtocolStates; ++state) {
      for (size_t i = 0; i < kSimFaults; ++i) {
        const SimFault fault = static_cast<SimFault>(i);
        if (WhyNever(fault, state) == nullptr) pairs->push_back({fault, state});
      }
    }
    return pairs;
  }();
  return *kPairs;
}

const std::vector<std::string>& ReportsToHear() {
  static const std::vector<std::string>* const kReports = new std::vector<std::string>{
      "primary, unprotected: the backup proves an epoch that this engine does not know",
      "primary, protected: the backup proves an epoch that this engine does not know",
      "primary, unprotected: the guest's dirty log can not be read",
      "primary, unprotected: the guest's dirty log or state can not be read",
      "guard, ending: all guests of the group have ended",
      "backup, syncing: the copy is lost: the session takes no more epochs",
      "backup, standby: the copy is lost: the session takes no more epochs",
      "backup, claiming: the copy is lost: the session takes no more epochs",
      "backup, abandoning: the copy is lost",
  };
  return *kReports;
}

}  // namespace haven
