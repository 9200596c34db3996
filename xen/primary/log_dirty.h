// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_LOG_DIRTY_H_
#define HAVEN_XEN_PRIMARY_LOG_DIRTY_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xen/base/domain_control.h"

namespace haven {

// A domain's log of dirty frames, and the certainty that nobody else has taken anything out of it.
//
// Any toolstack action on the same domain (xl save, migrate, remus) clears the log, or turns it off
// and on again, without a word. So when it was cleared one frame that nobody writes is marked as
// dirty, the canary: if it is not in the next fetch, the log was touched in between. One thread.
class LogDirty {
 public:
  // `canary` is a frame below `frame_count` that belongs to no epoch and that neither guest nor
  // toolstack write. `guest` is for messages. `control` outlives this.
  LogDirty(XenDomainControl& control, std::string guest, uint64_t frame_count, uint64_t canary);
  // Disable()s.
  ~LogDirty() { Disable(); }
  LogDirty(const LogDirty&) = delete;
  LogDirty& operator=(const LogDirty&) = delete;

  // Starts the log, empty. `leftover`: one that is on already is that of an earlier process of
  // ours, and is started anew. FailedPrecondition: it is on and not ours, or the guest can not be
  // logged, with the remedy; Internal: the canary does not work; else errors of the control.
  absl::Status Enable(bool leftover);
  bool enabled() const { return enabled_; }

  // ORs what was dirtied since the log was cleared last into `bitmap` (a bit each of frame_count)
  // and clears it, or keeps it. `stopped`: the guest is suspended. Aborted: frames may be missing;
  // the log is whole again from here on, and empty. FailedPrecondition: not enabled; else errors of
  // the control.
  enum class After : uint8_t { kClear, kKeep };
  absl::Status Fetch(std::span<uint64_t> bitmap, bool stopped, After after = After::kClear);

  // How many frames the next fetch would give, the canary among them. Only a look, also at a log
  // that is not whole any more. FailedPrecondition: not enabled; else errors of the control.
  absl::StatusOr<uint64_t> Count();

  // Idempotent. A log that can not be turned off belongs to a domain that is gone.
  void Disable();

  // Times that frames may have been lost.
  uint64_t losses() const { return losses_; }

 private:
  absl::Status CheckEnabled() const;
  absl::Status Start();
  absl::Status Restart(std::string cause);
  bool Marked(std::span<const uint64_t> words) const;

  XenDomainControl& control_;
  const std::string guest_;
  const uint64_t frame_count_;
  const uint64_t canary_;
  bool enabled_ = false;
  uint64_t losses_ = 0;
  std::string lost_;  // Why frames are missing of which nobody was told yet.
};

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_LOG_DIRTY_H_
