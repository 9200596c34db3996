// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_PLUG_OUTPUT_H_
#define HAVEN_XEN_OUTPUT_PLUG_OUTPUT_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/primary/output_buffer.h"
#include "xen/output/netlink_channel.h"
#include "xen/output/netlink_socket.h"
#include "xen/output/plug_devices.h"
#include "xen/output/plug_monitor.h"
#include "xen/output/plug_spec.h"

namespace haven {

// What OutputStats has no room for.
struct PlugCounters {
  uint64_t requests = 0;        // Sent to the kernel so far.
  int64_t last_held_ns = 0;     // From the start of the epoch released last to its release: the age
  int64_t longest_held_ns = 0;  // of its oldest packet, at most.
  uint64_t overtaken = 0;       // Releases that did not wait any longer for the one before.
};

// OutputBuffer of the NICs of a group of guests, by Linux' traffic control.
//
//   NIC ── filter (clone and drop) ──┬─ redirection ─► ifb .0  plug: running epoch, closed
//   NIC ── filter (clone and drop) ──┘                 ifb .1  plug: finished epoch, closed
//                                                      ifb .2  plug: released, open
//   a released packet goes on from its NIC as if it had just come from the guest
//
// One buffer serves all NICs of a group, because they have to act as one: a single request points
// all of them at the next plug, or opens the one that all have filled. The order between NICs is
// kept, too. With one buffer for each NIC a barrier would be a request for each, of which one may
// fail.
//
// An epoch has a plug of its own, which is opened as a whole. The counts by which one plug can keep
// two epochs apart (TCQ_PLUG_RELEASE_ONE) are not used: the kernel changes them without a lock
// while packets arrive on other processors (net/sched/sch_plug.c), so that a later release can let
// packets of an uncommitted epoch go; they can not be read, so nobody could take a buffer over; and
// they are wrong after the device was down. Here every command goes to a plug at which nothing
// arrives, except for OpenAll and the Hold that follows it.
//
// The kernel objects outlive the process; the next one with the same PlugSpec::group finds them and
// takes them over with Hold, OpenAll or Discard. What was held stays held, as part of the running
// epoch.
class PlugOutput final : public OutputBuffer {
 public:
  // Looks for what is there and changes nothing. `requests` and `events` are those of
  // netlink_socket.h or a test's. InvalidArgument: no group, no device. Others: PlugDevices::Find.
  // A NIC that can not be held is only Hold's problem.
  static absl::StatusOr<std::unique_ptr<PlugOutput>> Attach(const PlugSpec& spec,
                                                            std::unique_ptr<NetlinkSocket> requests,
                                                            std::unique_ptr<NetlinkSocket> events,
                                                            const Clock& clock);
  // With sockets of this network namespace and the system's clock.
  static absl::StatusOr<std::unique_ptr<PlugOutput>> Attach(const PlugSpec& spec);

  // Sets everything up if nothing is there, with its plugs open: what the guests send takes the way
  // through them from here on. The kernel loads its modules for it. Errors as Hold.
  absl::Status Prepare() override;

  // Sets everything up that is missing. NotFound: a NIC is not there; AlreadyExists,
  // FailedPrecondition: as PlugDevices::Ensure. Some milliseconds.
  absl::Status Hold() override;

  // One request. FailedPrecondition, and nothing is done: not held, a second Barrier before
  // ReleaseOne, or the buffer is broken. Any other error: unknown, and it is broken from then on.
  absl::Status Barrier() override;

  // Errors as Barrier. Two requests: the epoch released before must have left, or it would be
  // overtaken. If it takes longer than PlugSpec::order_ns, that is allowed and counted.
  absl::Status ReleaseOne() override;

  // Returns when what was held has left, in order. DeadlineExceeded: it is open, but something is
  // still inside. If the plugs are gone, the filters go as well, so that the NICs are not cut off.
  absl::Status OpenAll() override;

  // NICs that are gone are forgotten, those that have come are held from now on. What was held is
  // released, unless somebody has removed it.
  absl::Status Rebuild() override;

  // What a NIC that is still there sends from now on is lost.
  absl::Status Discard() override;

  // FailedPrecondition unless open; DeadlineExceeded: something is still inside, try again.
  absl::Status Remove() override;

  // Packets held are counted as the guest sent them, released ones as they go on the wire: the
  // kernel counts a large packet of TCP by its segments there. The last known numbers if the kernel
  // does not answer.
  OutputStats stats() override;

  // Besides what the monitor has seen: a request whose result is unknown.
  absl::Status Health() override;

  const PlugCounters& counters();

 private:
  enum class State : uint8_t {
    kAbsent,  // Nothing is there: packets leave at once.
    kFound,   // Somebody else has left something there, held or not.
    kHolding,
    kOpen,
  };

  PlugOutput(const PlugSpec& spec, std::unique_ptr<NetlinkSocket> requests,
             std::unique_ptr<NetlinkSocket> events, const Clock& clock);

  absl::Status Install();
  absl::Status CloseAll();
  absl::Status OpenQueues();
  absl::Status OpenAndDrain(size_t queue, int64_t deadline_ns);
  absl::Status WaitUntilEmpty();
  // What is still in a queue, into passage_. 0 or an errno.
  int AskPassage(size_t queue);
  // Waits until the epoch released before has left, for a bounded time. 0 or an errno.
  int KeepOrder(size_t queue);
  absl::Status ReleaseTakenOver();
  void PrepareRequests();
  // The answer of Transact as the status of an operation of the epoch path.
  absl::Status Broken(int error, const char* what);
  absl::Status Refuse(const char* command) const;
  void CountQueue(size_t queue);

  // The kernel does not announce that a queue has run empty.
  static void PauseBetweenLooks();
  static size_t After(size_t queue) { return (queue + 1) % PlugDevices::kQueues; }
  static size_t Before(size_t queue) { return After(After(queue)); }

  const PlugSpec spec_;
  const Clock& clock_;
  NetlinkChannel channel_;
  PlugDevices devices_;
  PlugMonitor monitor_;

  State state_ = State::kAbsent;
  size_t current_ = 0;  // The queue of the running epoch; the finished one is before it.
  bool finished_ = false;
  bool taken_over_ = false;  // The queue before the finished one may hold something, too.
  absl::Status unknown_;     // The first request whose result is unknown.
  std::array<bool, PlugDevices::kQueues> closed_ = {};

  // Built once, sent in each epoch.
  std::array<NetlinkBytes, PlugDevices::kQueues> redirect_to_;
  std::array<NetlinkBytes, PlugDevices::kQueues> open_;
  std::array<NetlinkBytes, PlugDevices::kQueues> close_before_and_open_;
  std::array<NetlinkBytes, PlugDevices::kQueues> ask_passage_;
  PassageAnswer passage_;
  NetlinkChannel::Visitor note_passage_;

  int64_t running_since_ns_ = 0;
  int64_t finished_since_ns_ = 0;
  PlugCounters counters_;

  // Of each queue: what earlier plugs have counted, and the last answer of the present one.
  struct Counted {
    uint64_t passed_before = 0;
    uint64_t dropped_before = 0;
    QdiscAnswer last;
  };
  std::array<Counted, PlugDevices::kQueues> counted_;
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_PLUG_OUTPUT_H_
