// SPDX-License-Identifier: Apache-2.0
//
// What can be done to a simulated world.
#ifndef HAVEN_TESTS_SIM_SIM_FAULTS_H_
#define HAVEN_TESTS_SIM_SIM_FAULTS_H_

#include <cstddef>
#include <cstdint>

namespace haven {

// Coverage counts each in each state of the protocol.
enum class SimFault : uint8_t {
  // Strike once.
  kEngineCrash,
  kEngineHang,  // Its heartbeats go on for as long as it has vouched for itself.
  kGuardCrash,  // Its engine dies with it.
  kGuardHang,
  kSessionCrash,
  kSessionHang,
  kListenerCrash,  // With it go the processes that have just been started for a connection.
  kPrimaryHostCrash,
  kBackupHostCrash,
  kChannelLost,
  kRailFails,  // The data lane fails once: the next link is another one.
  kOldAck,     // An acknowledgement of an older link or session lands in the peer block.
  kClockJump,
  kGuestShutdown,
  kGuestCrash,
  kGuestVanish,
  kBurst,
  kHandover,
  kOperatorPromote,
  kUnprotect,
  kRunFailsOnce,
  // Last for a while.
  kPartition,
  kOneWayOut,   // Primary's host to backup's.
  kOneWayBack,  // The other way.
  kFlap,
  kBeatsOnly,  // Heartbeats get through, and nothing else.
  kDataOnly,   // Epochs get through, and nothing else.
  kArbiterCutPrimary,
  kArbiterCutBackup,
  kSlowPeer,    // The session process turns late.
  kApplyStall,  // Committed epochs are not applied: the journal fills up.
  // Come by chance, and count when they take effect (SimWireFault, SimGuestFault).
  kLostWrite,
  kLateWrite,
  kPartialWrite,
  kTornWrite,
  kGhostWrite,
  kCorruptWrite,
  kArbiterLosesRequest,
  kArbiterLosesAnswer,
  kArbiterDenies,
  kRevokeFails,
  kFetchFails,
  kLogLost,
  kSuspendIgnored,
  kCaptureFails,
  kOutputFails,
  kPrepareFails,
  kRunFails,
  kRunAnswerLost,
  kAbandonFails,
  kRecordFails,  // The host's record of the group can not be written.
  // Follow from others.
  kSuspendAborted,  // Some guests of a group had stopped when it was given up.
  kJournalFull,     // An epoch waits for room in the journal.
  kCount,
};
inline constexpr size_t kSimFaults = static_cast<size_t>(SimFault::kCount);

inline constexpr SimFault kFirstLasting = SimFault::kPartition;
inline constexpr SimFault kFirstByChance = SimFault::kLostWrite;
inline constexpr SimFault kFirstConsequence = SimFault::kSuspendAborted;
inline bool IsLasting(SimFault fault) { return fault >= kFirstLasting && fault < kFirstByChance; }
inline bool IsByChance(SimFault fault) {
  return fault >= kFirstByChance && fault < kFirstConsequence;
}

const char* SimFaultName(SimFault fault);

// What guests, hypervisor and the host's disk do wrong at an opportunity.
enum class SimGuestFault : uint8_t {
  kFetchFails,
  kLogLost,
  kSuspendIgnored,
  kCaptureFails,
  kOutputFails,
  kPrepareFails,
  kRunFails,
  kRunAnswerLost,
  kAbandonFails,
  kRecordFails,
  kCount,
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_FAULTS_H_
