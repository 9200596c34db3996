// SPDX-License-Identifier: Apache-2.0
//
// The seam to the buffer that holds a group's network output (DESIGN.md sections 4 and 6; the
// semantics are those of Linux' sch_plug, facts in net/sched/sch_plug.c).
#ifndef HAVEN_ENGINE_PRIMARY_OUTPUT_BUFFER_H_
#define HAVEN_ENGINE_PRIMARY_OUTPUT_BUFFER_H_

#include <cstdint>

#include "absl/status/status.h"

namespace haven {

struct OutputStats {
  uint64_t held_packets = 0;
  uint64_t held_bytes = 0;
  uint64_t released_packets = 0;
  uint64_t dropped_packets = 0;  // Lost at the buffer's limit: clients see them as network loss.
  int64_t last_held_ns = 0;      // At most so old was a packet when it was released: of the last
  int64_t longest_held_ns = 0;   // epoch, and of any. 0: the buffer does not know.
};

// Holds what the guests send. All NICs of the group act together. The kernel (or the gate process)
// keeps holding when the engine dies. Every call returns when the effect is confirmed; an error
// means "unknown, still holding or held": treat it as a failed buffer. Used from the epoch thread
// only.
class OutputBuffer {
 public:
  virtual ~OutputBuffer() = default;

  // Makes ready what Hold needs, while the guests run and output passes, so that they need not
  // stand still for it. What is held stays held. An error: nothing is lost, and Hold meets it
  // again.
  virtual absl::Status Prepare() { return absl::OkStatus(); }

  // From here on output is held. Ends the pass-through of OpenAll; what is held belongs to the
  // running epoch. Idempotent.
  virtual absl::Status Hold() = 0;

  // Marks the end of the running epoch: what is held so far belongs to the finished epoch. At most
  // one finished epoch is remembered: a second Barrier before ReleaseOne would lose the first mark
  // and is the caller's error.
  virtual absl::Status Barrier() = 0;

  // Lets the finished epoch's output go. No-op without a finished epoch.
  virtual absl::Status ReleaseOne() = 0;

  // Lets everything go and passes output through until Hold(). Only with the register's word.
  virtual absl::Status OpenAll() = 0;

  // Builds a buffer that was found broken anew, holding and with no finished epoch. What the old
  // one held is lost or released. The guests are stopped, and their state is committed.
  virtual absl::Status Rebuild() = 0;

  // Removes the buffer with what it holds (a deposed copy, after its guests and NICs are gone).
  virtual absl::Status Discard() = 0;

  // Takes the buffer off devices that go on without it; only after OpenAll.
  virtual absl::Status Remove() = 0;

  virtual OutputStats stats() = 0;

  // OK while the buffer is known to be intact; otherwise what happened to it (link event, foreign
  // qdisc change, new NIC) and for how long I2 may have been broken. Does not block.
  virtual absl::Status Health() = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_OUTPUT_BUFFER_H_
