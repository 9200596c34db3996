// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_STORE_H_
#define HAVEN_XEN_BASE_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace haven {

// The store that toolstack and guests share (xenstore). One thread. Every call but those on watches
// is a round trip to the store's daemon. Errors name the path: NotFound, there is no such entry;
// PermissionDenied; Unavailable, the daemon does not answer; Internal, another errno.
class XenStore {
 public:
  virtual ~XenStore() = default;

  virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual absl::Status Write(const std::string& path, const std::string& value) = 0;
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
  // Readable when something is announced.
  virtual int event_fd() const = 0;
};

// By libxenstore. A handle that watches has a thread of its own behind it, which makes its round
// trips slower: use one for watching and another for what is urgent. Unavailable: no daemon.
absl::StatusOr<std::unique_ptr<XenStore>> OpenXenStore();

}  // namespace haven

#endif  // HAVEN_XEN_BASE_STORE_H_
