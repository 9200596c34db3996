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
  kFalseProof,   // The backup claims on a new link to have an epoch that was never sent.
  // Follow from others.
  kSuspendAborted,  // Some guests of a group had stopped when it was given up.
  kJournalFull,     // An epoch waits for room in the journal.
  kCount,
};
inline constexpr size_t kSimFaults = static_cast<size_t>(SimFault::kCount);

inline constexpr SimFault kFirstLasting = SimFault::kPartition;
inline constexpr SimFault kFirstByChance = SimFault::kLostWrite;
inline constexpr SimFault kFirstConsequence = SimFault::kSuspendAborted;
inline bool IsCommand(SimFault fault) {
  return fault == SimFault::kHandover || fault == SimFault::kOperatorPromote ||
         fault == SimFault::kUnprotect;
}
inline bool IsLasting(SimFault fault) { return fault >= kFirstLasting && fault < kFirstByChance; }
inline bool IsByChance(SimFault fault) {
  return fault >= kFirstByChance && fault < kFirstConsequence;
}

const char* SimFaultName(SimFault fault);

using SimFaultSet = uint64_t;
static_assert(kSimFaults <= 64);
template <typename... Faults>
constexpr SimFaultSet FaultsOf(Faults... faults) {
  return (SimFaultSet{0} | ... | (SimFaultSet{1} << static_cast<uint8_t>(faults)));
}

// What guests, hypervisor, the host's disk and the peer do wrong at an opportunity.
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
  kFalseProof,
  kCount,
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_FAULTS_H_
