// SPDX-License-Identifier: Apache-2.0
//
// The seam to the copy of a guest that waits on the backup (DESIGN.md section 6).
#ifndef HAVEN_ENGINE_BACKUP_REPLICA_DOMAIN_H_
#define HAVEN_ENGINE_BACKUP_REPLICA_DOMAIN_H_

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// A complete guest, built and waiting, that has never run. Its memory is mapped writable for the
// whole of its wait. Promotion is three calls, so that a group starts together and nothing is lost
// on the way: Prepare for every member, Outlive for every member, then Run for every member. One
// thread at a time; memory() may be written by several.
class ReplicaDomain {
 public:
  virtual ~ReplicaDomain() = default;

  // Pages that may be written: every frame for which IsRam() holds.
  virtual const GuestMemory& memory() const = 0;

  // OK if `state` could be the state of this domain: right size and version. InvalidArgument
  // otherwise. Aborted: the copy is lost, and takes no state any more. Internal: neither is known.
  // Called before the acknowledgement of the epoch that carries it, so that Prepare can not fail on
  // it.
  virtual absl::Status CheckState(std::span<const std::byte> state) const = 0;

  // Sets the vCPU and device state of the epoch to promote. Everything but letting it run.
  // No applier thread touches memory() from here on. Internal: the copy can not run, with the
  // cause.
  virtual absl::Status Prepare(std::span<const std::byte> state) = 0;

  // From here on the copy stays as it is, complete and paused, when this process dies: a guard
  // finds it, and lets it run (Domain::LetRun) or destroys it, as the register says. After Prepare.
  // Internal, with the cause: it may go with this process. Idempotent.
  virtual absl::Status Outlive() = 0;

  // Lets the guest run. After OK this object only unmaps, and further calls are OK. NotFound:
  // somebody else has destroyed the copy, which never runs. After any other error it is not known
  // whether the guest runs: call again until OK or NotFound. Idempotent.
  virtual absl::Status Run() = 0;

  // Destroys the copy. Returns when it can never run. The destructor does the same unless Run() was
  // OK.
  virtual absl::Status Abandon() = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_REPLICA_DOMAIN_H_
