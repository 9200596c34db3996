// SPDX-License-Identifier: Apache-2.0
//
// Keeps an arbiter's blocking calls away from the thread that must not block.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_THREAD_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_THREAD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/thread.h"
#include "engine/membership/arbiter.h"

namespace haven {

// The answer to one call, under the id its caller chose.
struct ArbiterReply {
  uint64_t id = 0;
  std::string group;
  RegisterAnswer answer;
};

// A worker thread that makes the calls one after the other. Every accepted call gets exactly one
// reply, at the latest kGrace after its timeout, counted from its submission: should the arbiter
// itself hang (a file system whose server is away, say), the reply is made up as kUnknown, and what
// the arbiter says in the end is dropped. Repeating the request brings it to light.
//
// One thread owns the object: it submits, pops, polls and stops. No member but Stop blocks longer
// than it takes to move a few pointers under a lock.
class ArbiterThread {
 public:
  // Calls submitted and not popped yet, of all groups.
  static constexpr size_t kCallLimit = 64;
  // How much longer than its timeout an arbiter may take before it is taken to hang.
  static constexpr absl::Duration kGrace = absl::Milliseconds(200);
  // How long the destructor waits for the worker when Stop was not called.
  static constexpr absl::Duration kStopTimeout = absl::Seconds(1);

  // Starts the worker. The arbiter is shared with it, because a call that hangs may outlive this
  // object. Errors: those of timerfd_create(2) and Thread::Start.
  static absl::StatusOr<std::unique_ptr<ArbiterThread>> Start(std::shared_ptr<Arbiter> arbiter);

  ~ArbiterThread();
  ArbiterThread(const ArbiterThread&) = delete;
  ArbiterThread& operator=(const ArbiterThread&) = delete;

  // Hand over a read, or a change. FailedPrecondition: a call of this group has no reply popped
  // yet, or the worker was stopped. ResourceExhausted: kCallLimit is reached. Neither gets a reply.
  absl::Status SubmitRead(uint64_t id, absl::string_view group, absl::Duration timeout);
  absl::Status SubmitChange(uint64_t id, absl::string_view group, RegisterRequest request,
                            absl::Duration timeout);

  // The next reply, or nullopt when there is none now.
  std::optional<ArbiterReply> Pop();

  // Becomes readable for poll(2) when Pop has a reply, and stays so until Pop has returned the last
  // one. Not to be read. Owned by this object.
  int fd() const;

  // Drops what is queued, lets the running call finish and ends the thread; no replies come after
  // it. DeadlineExceeded: the call hangs. Its thread is then left to itself; it touches nothing but
  // the arbiter and goes away when the call returns. Calling Stop again is OK.
  absl::Status Stop(absl::Duration timeout);

 private:
  struct Call;
  class Shared;

  ArbiterThread(std::shared_ptr<Shared> shared, Thread worker);

  const std::shared_ptr<Shared> shared_;
  Thread worker_;
  bool stopped_ = false;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_THREAD_H_
