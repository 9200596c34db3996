// SPDX-License-Identifier: Apache-2.0
//
// Deliberately broken variants of the protocol, with which the simulation proves that its checks
// bite.
#ifndef HAVEN_ENGINE_BASE_MUTANT_H_
#define HAVEN_ENGINE_BASE_MUTANT_H_

// HAVEN_MUTANT(kName) is the constant false in every build but `--config=mutants`, which only
// tests/sim is built with; there it is true for the variant that was chosen on the command line.
#ifdef HAVEN_MUTANTS

namespace haven {

enum class Mutant {
  kNone,
  kCommitBeforeData,        // The commit record overtakes its chunks.
  kReleaseBeforeCommit,     // Output goes when the epoch is sent, not when it is acknowledged.
  kPromoteBeforeRegister,   // A silent primary is enough to run the copy.
  kReadBeforeCutOff,        // The journal is read while the old writer still writes.
  kApplyBeforeVerify,       // A checksum that does not fit is no reason to stop.
  kReuseBeforeApply,        // Ring slots are free again with the acknowledgement.
  kDropDirtyOnFailure,      // What was sent and not acknowledged is forgotten.
  kReuseEpochNumber,        // An epoch given up gives its number back.
  kBelieveOldAck,           // An acknowledgement counts whatever session and link it names.
  kOpenBeforeSolo,          // Output is opened when solo is asked for.
  kPromoteStale,            // A replica may run whatever the register says of its session.
  kBarrierBeforeStopped,    // Output is marked when the guests are asked to stop.
  kUnknownIsDenied,         // No answer to `promotable` is taken for a no.
  kGuardOpensWithoutGrant,  // A restarted guard opens the output because it owns the group.
  kDestroyBeforeRunning,    // A deposed copy goes before the new one runs.
  kEndBeforeNone,           // A guest ends: output is opened when `none` is asked for.
  kForgetResume,            // Guests that stood still stay so when solo is granted.
  kRebuildBeforeCommit,     // A broken buffer is built anew before the stopped state is committed.
  kBaselineBeforeAck,       // What is known of the replica moves when an epoch fails, too.
  kBaselineSurvivesPlain,   // Pages that go plain do not change what is known of the replica.
  kReferToWritten,          // Pages may refer to pages that the same epoch writes.
  kIgnoreSeal,              // A seal that does not fit is no reason to stop.
  kRecordTooLate,           // The host's record does not say that a session began.
  kResendAll,               // A new link sends every page again.
  kSlowToClaim,             // A silent primary is given ten times the detection time.
  kForgetDeadline,          // An attempt at a session has no deadline.
  kKeepLostCopy,            // A lost copy is offered to session after session.
  kGiveUpAtOnce,            // A lost copy goes although the register may still come to name it.
  kForgetCleared,           // What a log had when it was cleared between two epochs is forgotten.
  kOutliveTooLate,          // Copies can go with their process when the register says they run.
  kRebuildBesideGuest,      // A broken buffer is built anew although a guest runs.
};

inline Mutant g_mutant = Mutant::kNone;

}  // namespace haven

#define HAVEN_MUTANT(name) (::haven::g_mutant == ::haven::Mutant::name)
#else
#define HAVEN_MUTANT(name) false
#endif

#endif  // HAVEN_ENGINE_BASE_MUTANT_H_
