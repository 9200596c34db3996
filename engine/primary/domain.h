// SPDX-License-Identifier: Apache-2.0
//
// The seam to a running guest on the primary (DESIGN.md sections 4 and 6).
#ifndef HAVEN_ENGINE_PRIMARY_DOMAIN_H_
#define HAVEN_ENGINE_PRIMARY_DOMAIN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// What a domain says about itself; travels in the handshake.
struct DomainInfo {
  std::string name;    // As operators call it: 1 to 127 bytes.
  std::string uuid;    // 36 characters, lower case.
  std::string config;  // Opaque description from which the peer's ReplicaDomain builds its copy.
  bool disk_covered = true;  // Every disk that it writes is part of an epoch.
};

// Why a domain is no longer there to be suspended.
enum class DomainEnd : uint8_t { kNone = 0, kShutdown = 1, kReboot = 2, kCrash = 3, kVanished = 4 };

// One protected guest. Constructed with its memory mapped. Used from the epoch thread only, but for
// memory(), which the copy threads read as well. No call but CheckDevices allocates after
// EnableLogDirty.
class Domain {
 public:
  virtual ~Domain() = default;

  virtual const DomainInfo& info() const = 0;
  virtual const GuestMemory& memory() const = 0;

  // Starts dirty tracking; every page counts as dirty from here on until fetched.
  // FailedPrecondition: somebody else holds log-dirty, or the guest can not be tracked, with the
  // remedy.
  virtual absl::Status EnableLogDirty() = 0;

  // ORs the pages dirtied since the last fetch into `bitmap` (memory().bitmap_words() words) and
  // clears the log. Aborted: pages may have been lost from the log (ENOMEM, log-dirty was taken
  // away and is on again): the caller must treat every page as dirty. Unavailable: the guest is
  // gone.
  virtual absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) = 0;

  // The same, but may leave the log as it is: then the next fetch has these pages again, and what
  // is written until then. The guest does not fault on them meanwhile. Errors as above.
  virtual absl::Status FetchDirty(std::span<uint64_t> bitmap) { return FetchAndClearDirty(bitmap); }

  // How many pages the log has now, a few more if pages that are not RAM are among them. Clears
  // nothing, and costs the guest much less than a fetch, after which it faults again on what it
  // writes. A log that was lost counts as it is: the next fetch tells. Errors mean nothing more
  // than that the count is not known.
  virtual absl::StatusOr<uint64_t> CountDirty() = 0;

  // Stops tracking. Idempotent; called on every way out.
  virtual void DisableLogDirty() = 0;

  // Writes the vCPU and device state of the suspended guest to the front of `out` and returns its
  // size in bytes. Called last for a checkpoint, so an error of it gives that up.
  // FailedPrecondition: the guest is not suspended any more. ResourceExhausted: `out` is too small.
  // Unavailable: the guest is gone, or what emulates its devices.
  virtual absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) = 0;

  // Upper bound of CaptureState's size, fixed for the domain's life.
  virtual size_t max_state_bytes() const = 0;

  // kNone while the guest lives; does not block.
  virtual DomainEnd End() = 0;

  // OK while memory() is all the memory that the guest has. Else, and for good: another process has
  // to take hold of the guest, map it as it is now and send all of it. Does not block.
  virtual absl::Status CheckMemory() { return absl::OkStatus(); }

  // OK while the guest has the devices that it had when this process took hold of it, as far as is
  // known. FailedPrecondition: it has others, which its copy has not; another process has to take
  // hold of it, for a copy that is made anew. Asked often: looks, and may allocate, only when
  // something has changed, and then waits no longer than the epoch thread may.
  virtual absl::Status CheckDevices() { return absl::OkStatus(); }

  // Lets a promoted copy run whose process has died before it could (ReplicaDomain::Outlive); only
  // when the register says that it runs. OK for any other guest, and again. Unavailable: the guest
  // is gone.
  virtual absl::Status LetRun() { return absl::OkStatus(); }

  // Destroys the guest for good (a deposed copy). Returns when it can not run any more. OK if
  // already gone.
  virtual absl::Status Destroy() = 0;
};

// How a guest is stopped for an epoch: cooperatively, or by plain pause. Used from the epoch
// thread.
class SuspendMethod {
 public:
  virtual ~SuspendMethod() = default;

  // Asks the guest to stop. Returns at once.
  virtual absl::Status Request() = 0;

  enum class State : uint8_t { kRunning, kSuspended, kGone };

  // Never blocks. kRunning until the stop is complete.
  virtual State Poll() = 0;

  // Takes a request back, or resumes the stopped guest; after OK it runs, or will run however the
  // race between the request and this call went. Idempotent. Unavailable: the guest is gone.
  virtual absl::Status Resume() = 0;

  // Readable when Poll() may have changed; -1 if it must be polled.
  virtual int event_fd() const = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_DOMAIN_H_
