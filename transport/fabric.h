// SPDX-License-Identifier: Apache-2.0
//
// The seam to one-sided memory access (DESIGN.md sections 3 and 5): verbs on real hosts, shared
// memory between two processes of one host, seeded faults in the simulation.
#ifndef HAVEN_TRANSPORT_FABRIC_H_
#define HAVEN_TRANSPORT_FABRIC_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace haven {

// Who may write a region.
enum class RegionAccess : uint8_t {
  kLocal = 0,        // Source of writes only.
  kRemoteWrite = 1,  // The peer may write it.
};

// A registered piece of this process' memory. The fabric owns the memory: it is page-aligned,
// prefaulted, zero at first, and stays until the fabric is destroyed.
struct LocalRegion {
  uint32_t id = 0;  // Handle for posting.
  std::span<std::byte> bytes = {};
};

// A peer's region as this side may address it.
struct RemoteRegion {
  uint64_t key = 0;   // The fabric's own meaning (rkey, memfd index).
  uint64_t base = 0;  // Added to every remote offset (0 where the fabric addresses by offset).
  uint64_t bytes = 0;
};

// One work request. `local_offset + bytes` lies in the local region, `remote_offset + bytes` in the
// remote one.
struct WriteRequest {
  uint64_t id = 0;  // Returned in the completion.
  uint32_t local_region = 0;
  uint64_t local_offset = 0;
  RemoteRegion remote = {};
  uint64_t remote_offset = 0;
  uint32_t bytes = 0;
  bool signaled = false;       // A completion is wanted (an error always yields one).
  bool has_immediate = false;  // Ends with an immediate: takes one of the peer's receive credits.
  uint32_t immediate = 0;
};

enum class CompletionKind : uint8_t { kWrite = 0, kRead = 1, kImmediate = 2 };

// What happened to a request, as far as this side can know.
enum class CompletionResult : uint8_t {
  kOk = 0,
  kPermission = 1,  // The peer took the permission away: maybe deposed.
  kRetry = 2,       // The peer does not answer: dead, cut off, or it destroyed its queue pair.
  kFlushed = 3,     // Not tried, after an earlier error.
  kOther = 4,
};

struct Completion {
  uint64_t id = 0;  // Of the request; 0 for kImmediate.
  CompletionKind kind = CompletionKind::kWrite;
  CompletionResult result = CompletionResult::kOk;
  uint32_t immediate = 0;
};

// One reliable connection (one queue pair). Not thread-safe: one thread posts and polls. After the
// first failed completion nothing more goes through, and what was posted MAY OR MAY NOT have
// landed.
class Link {
 public:
  virtual ~Link() = default;

  // Posts a list in order; the peer sees a request's bytes no later than any later one's completion
  // or immediate on this link. No allocation, no lock. Returns ResourceExhausted (queue full,
  // nothing posted: poll and try again), Unavailable (the link has failed; nothing more was posted)
  // or InvalidArgument (a request does not lie in its regions, or the list is longer than the
  // queue: a bug of the caller; nothing was posted and the link goes on).
  virtual absl::Status PostWrites(std::span<const WriteRequest> requests) = 0;

  // Reads `bytes` from the peer into a local region; completes as kRead. Same errors.
  virtual absl::Status PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                                RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) = 0;

  // Gives the peer `count` more immediates. Same errors.
  virtual absl::Status PostReceives(uint32_t count) = 0;

  // Fills `out` with finished requests and arrived immediates; returns how many. Never blocks.
  virtual size_t Poll(std::span<Completion> out) = 0;

  // A descriptor that becomes readable when Poll() may have something, after ArmEvent(); -1 where
  // the fabric has none (simulation). ArmEvent is followed by one more Poll() by the caller.
  virtual int event_fd() const = 0;
  virtual absl::Status ArmEvent() = 0;
  // True if ArmEvent() has nothing to do before the descriptor is readable or Poll() has returned
  // something.
  virtual bool armed() const { return false; }

  // Nobody uses the link any more, but for Revoke(): gives up what that does not need. Repeatable.
  virtual void Retire() {}

  // Cuts the peer off: when this returns OK, no byte the peer posted on this link can land any more
  // (DESIGN.md section 7: permission first, then destruction of the queue pair, whose success is
  // the proof). The link is unusable afterwards. An error means that the proof failed: do not go
  // on.
  virtual absl::Status Revoke() = 0;
};

// The registered memory of one session's side. Set-up calls; never on the epoch path.
class Fabric {
 public:
  virtual ~Fabric() = default;

  // Allocates and registers `bytes` (rounded up to pages). ResourceExhausted: too little memory or
  // RLIMIT_MEMLOCK, with what to do; InvalidArgument: size 0 or beyond the device's limits.
  virtual absl::StatusOr<LocalRegion> Register(uint64_t bytes, RegionAccess access) = 0;

  // What the peer needs to address `region`.
  virtual absl::StatusOr<RemoteRegion> Export(const LocalRegion& region) const = 0;

  // Largest WRITE in bytes.
  virtual uint32_t max_write_bytes() const = 0;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_FABRIC_H_
