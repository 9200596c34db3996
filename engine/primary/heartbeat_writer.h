// SPDX-License-Identifier: Apache-2.0
//
// The primary's heartbeat into the backup's control block (DESIGN.md section 7).
#ifndef HAVEN_ENGINE_PRIMARY_HEARTBEAT_WRITER_H_
#define HAVEN_ENGINE_PRIMARY_HEARTBEAT_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/replica/heartbeat.h"
#include "engine/replica/identity.h"
#include "transport/fabric.h"

namespace haven {

struct HeartbeatOptions {
  SessionId session = kNoSession;
  LinkNumber link_number = kNoLink;
  // The region whose control block is written.
  RemoteRegion journal;
  // kHeartbeatBytes bytes of a local region, at the offset, not used by others.
  uint32_t scratch_region = 0;
  std::span<std::byte> scratch;
  uint64_t scratch_offset = 0;
  // Counter of the session's last heartbeat on any link; 0: none yet.
  uint64_t last_counter = 0;
};

enum class BeatResult : uint8_t {
  kPosted,  // The counter has grown and is on its way.
  kBusy,    // The one before is still under way, or the queue is full: nothing was posted.
  kFailed,  // The link has failed: failure() says how. Nothing more is posted.
};

// Writes one heartbeat after the other through a link of its own (own lane), at most one at a time.
// Polls that link's completions itself. Allocates nothing. Used by one thread.
class HeartbeatWriter {
 public:
  // `link` must outlive the writer. Options are checked.
  HeartbeatWriter(const HeartbeatOptions& options, Link& link);

  // Posts the next heartbeat. Never blocks.
  BeatResult Beat(PrimaryState state);

  // Counter of the last heartbeat posted.
  uint64_t counter() const { return counter_; }
  // Counter of the last heartbeat that the fabric has delivered.
  uint64_t delivered() const { return delivered_; }
  CompletionResult failure() const { return failure_; }

 private:
  void PollCompletions();

  const HeartbeatOptions options_;
  Link& link_;
  uint64_t counter_;
  uint64_t delivered_;
  bool failed_ = false;
  CompletionResult failure_ = CompletionResult::kOk;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_HEARTBEAT_WRITER_H_
