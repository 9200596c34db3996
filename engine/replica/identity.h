// SPDX-License-Identifier: Apache-2.0
//
// The names that primary, backup and arbiter use for one another's state (DESIGN.md sections 5 and
// 7).
#ifndef HAVEN_ENGINE_REPLICA_IDENTITY_H_
#define HAVEN_ENGINE_REPLICA_IDENTITY_H_

#include <cstddef>
#include <cstdint>

namespace haven {

// Size of a guest page in bytes. Xen's x86 interface knows no other.
inline constexpr size_t kPageBytes = 4096;

// A guest frame number: index of a 4 KiB page in one domain's physical address space.
using Gfn = uint64_t;

// Number of an epoch. Within a session it only grows and is never used twice; 0 means "none".
using Epoch = uint64_t;
inline constexpr Epoch kNoEpoch = 0;

// One replica in one backup process serving one engine incarnation: a random number, 0 means
// "none". It is what the arbiter's register names.
using SessionId = uint64_t;
inline constexpr SessionId kNoSession = 0;

// One connection within a session. Starts at 1, never reused; 0 means "none".
using LinkNumber = uint32_t;
inline constexpr LinkNumber kNoLink = 0;

// Ownership period of a group in the arbiter's register. Grows with every change of owner.
using Term = uint64_t;

// Position in the journal ring, counted in slots from the start of the session; slot = position %
// ring_slots.
using RingPosition = uint64_t;

// What an epoch's content is.
enum class EpochKind : uint16_t {
  // Pages copied from a running guest: brings the replica closer, leaves it inconsistent.
  kSync = 1,
  // Pages and state of a stopped guest: after its commit the replica equals the guest at one
  // instant.
  kCheckpoint = 2,
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_IDENTITY_H_
