// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_STORE_H_
#define HAVEN_XEN_BASE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace haven {

// The store that toolstack and guests share (xenstore). One thread. Every call but those on watches
// and Post is a round trip to the store's daemon, and ends within the patience of the handle; a
// daemon that still owes an older answer is not asked and not waited for. Errors name the path:
// NotFound, there is no such entry; PermissionDenied; DeadlineExceeded, the daemon does not answer,
// and may still do what it was asked; Unavailable, for good: the connection is gone; Internal,
// another errno.
class XenStore {
 public:
  virtual ~XenStore() = default;

  virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual absl::Status Write(const std::string& path, const std::string& value) = 0;
  // A Write that is not waited for. OK: it is on its way; that it fails is logged. Error: it is
  // not, and nothing happens.
  virtual absl::Status Post(const std::string& path, const std::string& value) = 0;
  // Idempotent.
  virtual absl::Status Remove(const std::string& path) = 0;
  // Sets `path` to `value` if it is `expected` at that moment; returns whether it was.
  virtual absl::StatusOr<bool> Replace(const std::string& path, const std::string& expected,
                                       const std::string& value) = 0;
  // Tells the daemon that a domain which was shut down for a suspend runs again, so that its next
  // end is announced.
  virtual absl::Status ResumeDomain(uint32_t domid) = 0;

  // Announces changes of `path`, or a special one as @releaseDomain; the first comes at once.
  virtual absl::Status Watch(const std::string& path) = 0;
  // Takes what has been announced. True: there was something. Does not block.
  virtual bool TakeEvents() = 0;
  // Readable when something is announced; also when an answer has come that is not waited for, so a
  // handle that watches is best used for nothing else.
  virtual int event_fd() const = 0;
};

// For whoever can wait: on a busy host the daemon does not answer at once. Less than the guard's
// patience with an engine that answers nobody.
inline constexpr absl::Duration kStorePatience = absl::Seconds(3);
// For what stands on the way of an epoch: an engine that waits for longer would be taken for dead.
inline constexpr absl::Duration kEpochStorePatience = absl::Milliseconds(300);

// A handle on the store of this host. Unavailable: there is no daemon.
absl::StatusOr<std::unique_ptr<XenStore>> OpenXenStore(absl::Duration patience = kStorePatience);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_STORE_H_
