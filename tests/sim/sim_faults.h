// SPDX-License-Identifier: Apache-2.0
//
// What can be done to a simulated world.
#ifndef HAVEN_TESTS_SIM_SIM_FAULTS_H_
#define HAVEN_TESTS_SIM_SIM_FAULTS_H_

#include <cstdint>

namespace haven {

// Coverage counts each in each state of the protocol.
enum class SimFault : uint8_t {
  kEngineCrash,
  kEngineHang,  // Its heartbeats go on for as long as it has vouched for itself.
  kGuardCrash,
  kSessionCrash,
  kSessionHang,
  kHostCrash,
  kPartition,
  kOneWayOut,   // Primary's host to backup's.
  kOneWayBack,  // The other way.
  kFlap,
  kChannelLost,
  kBeatsOnly,  // Heartbeats get through, and nothing else.
  kDataOnly,   // Epochs get through, and nothing else.
  kRailFails,  // The data lane fails once.
  kArbiterCutPrimary,
  kArbiterCutBackup,
  kArbiterLosesAnswers,
  kArbiterDenies,
  kGhostWrites,
  kTornWrites,
  kCorruptWrites,
  kSlowPeer,
  kClockJump,
  kFetchFails,
  kLogLost,
  kSuspendIgnored,
  kCaptureFails,
  kOutputFails,
  kRevokeFails,
  kPromotionFails,
  kRunFailsOnce,
  kRunAnswerLost,
  kGuestShutdown,
  kGuestCrash,
  kGuestVanish,
  kBurst,
  kHandover,
  kOperatorPromote,
  kUnprotect,
  kCount,
};
const char* SimFaultName(SimFault fault);

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_FAULTS_H_
