// SPDX-License-Identifier: Apache-2.0
//
// An engine's or a session process' hold on one synthetic guest.
#ifndef HAVEN_ENGINE_SYNTHETIC_CONNECTION_H_
#define HAVEN_ENGINE_SYNTHETIC_CONNECTION_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/replica/guest_memory.h"
#include "engine/synthetic/guest_channel.h"
#include "engine/synthetic/launcher.h"
#include "engine/synthetic/shared_memory.h"
#include "engine/synthetic/spec.h"
#include "engine/synthetic/status_page.h"

namespace haven {

// The guest's control connection, its mapped memory, and its process. While it exists the guest is
// attached: nobody else can control it. Its end, however it comes, changes nothing in the guest.
// The parts that implement the seams share one connection and use it from one thread at a time;
// memory() may be read from any.
class SyntheticConnection {
 public:
  // Attaches to the guest of that name. NotFound: there is none, or its process is dead, and what
  // it left is removed; ResourceExhausted as of ConnectToGuest; FailedPrecondition: another process
  // is attached (named in the message), or it is a copy that waits; DeadlineExceeded: it does not
  // answer; Unavailable: it ended while it was asked, and is NotFound from then on.
  static absl::StatusOr<std::shared_ptr<SyntheticConnection>> Attach(
      const std::string& runtime_dir, const std::string& name,
      absl::Duration timeout = GuestChannel::kTimeout);

  // Takes over a waiting copy that was just started; its memory is mapped writable.
  static absl::StatusOr<std::shared_ptr<SyntheticConnection>> Adopt(const std::string& runtime_dir,
                                                                    StartedGuest started);

  const SyntheticSpec& spec() const { return spec_; }
  const GuestMemory& memory() const { return memory_; }
  std::span<uint64_t> log_dirty() const { return log_dirty_; }
  const SyntheticStatusPage& status() const { return *status_; }
  GuestChannel& channel() { return channel_; }
  int event_fd() const { return event_fd_.get(); }
  int pid_fd() const { return pid_fd_.get(); }
  pid_t pid() const { return pid_; }

  // The guest's process is dead: it will never run again.
  bool Dead() const;
  // Unavailable if it is.
  absl::Status CheckAlive() const;

  // Kills the process and removes what it leaves in its directory. OK: it is dead.
  // DeadlineExceeded: it did not die within ten seconds.
  absl::Status Kill();

 private:
  SyntheticConnection(std::string runtime_dir, SyntheticSpec spec, GuestChannel channel);

  static absl::StatusOr<std::shared_ptr<SyntheticConnection>> Make(const std::string& runtime_dir,
                                                                   GuestChannel channel,
                                                                   const GuestMessage& attached,
                                                                   std::vector<UniqueFd> fds,
                                                                   bool writable);
  absl::Status Map(std::vector<UniqueFd> fds, bool writable);

  const std::string runtime_dir_;
  const SyntheticSpec spec_;
  GuestChannel channel_;
  pid_t pid_ = 0;
  UniqueFd event_fd_;
  UniqueFd pid_fd_;
  MappedMemory memory_map_;
  MappedMemory bitmap_map_;
  MappedMemory status_map_;
  GuestMemory memory_;
  std::span<uint64_t> log_dirty_;
  const SyntheticStatusPage* status_ = nullptr;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_CONNECTION_H_
