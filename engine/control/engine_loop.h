// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_ENGINE_LOOP_H_
#define HAVEN_ENGINE_CONTROL_ENGINE_LOOP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/control/heartbeat_pump.h"
#include "engine/control/mailbox.h"
#include "engine/control/poll_set.h"
#include "engine/control/primary_driver.h"
#include "engine/control/primary_status.h"
#include "engine/control/status_publisher.h"
#include "engine/control/system_ids.h"
#include "engine/control/thread_arbiter_port.h"
#include "engine/control/transport_backup_connector.h"
#include "engine/membership/arbiter.h"

namespace haven {

struct EngineOptions {
  std::string node_id;
  std::string group;
  PrimaryDriverOptions driver;  // protocol.owner is set; protocol.domains is filled in here.
  std::string backup_address;
  std::string return_address;  // Where this node listens as a backup; may be empty.
  FeatureOffer offer;
  uint32_t slot_bytes = kDefaultSlotBytes;
  uint64_t staging_bytes = uint64_t{256} << 20;  // Bounds the largest epoch.
  unsigned copy_workers = 1;                     // Beside the epoch thread.
  absl::Duration arbiter_timeout = absl::Seconds(1);
  int64_t beat_ns = 0;  // Between one-sided heartbeats, as for HeartbeatPump::IntervalFor.
  int64_t spin_ns = 50 * kNsPerUs;  // While an epoch is under way, before the thread sleeps.
  StatusPaths paths;
};

// What the engine works on and with. All of it outlives the loop.
struct EngineSeams {
  std::vector<GuestPorts> guests;
  OutputBuffer* output = nullptr;
  Transport* transport = nullptr;
  std::shared_ptr<Arbiter> arbiter;
};

struct EngineResult {
  PrimaryEnd end = PrimaryEnd::kNotYet;  // kNotYet: Stop() ended it, or `outdated`.
  // Another engine has to take hold of the guests (PrimaryDriver::outdated); the cause says why.
  bool outdated = false;
  std::optional<Register> value;  // The register as last seen.
  std::string cause;
};

// The body of a primary's engine process: one thread turns the protocol, which this object waits
// for and feeds; it never blocks but in the guests' and the output buffer's own calls. An engine
// with nothing to do sleeps. Copying, dialing, the arbiter's calls, heartbeats and the status have
// threads of their own.
class EngineLoop {
 public:
  // InvalidArgument: options do not fit (see BuildHello) or a seam is missing; ResourceExhausted:
  // no thread or descriptor, or not the memory that the codec wants. Touches no guest.
  static absl::StatusOr<std::unique_ptr<EngineLoop>> Create(EngineOptions options,
                                                            EngineSeams seams);
  // Dirty logging is off afterwards; output and guests stay as they are.
  ~EngineLoop();

  // Turns until the protection has ended for this engine or Stop() is called; once. `current`: as
  // for Primary::Start. The thread that calls it is the epoch thread of all seams.
  EngineResult Run(const std::optional<Register>& current);

  // Commands, from any other thread, also before Run(). Each waits until the loop has taken it;
  // errors as of Mailbox::Call and those named here.

  // Ends the protection through the arbiter; Run() returns when that is done.
  absl::Status Unprotect(absl::Duration timeout);
  // FailedPrecondition: not protected.
  absl::Status Handover(absl::Duration timeout);
  // InvalidArgument: not 1 ms to 1 h.
  absl::Status SetInterval(int64_t interval_ns, absl::Duration timeout);
  // FailedPrecondition: the engine was started without the codec.
  absl::Status SetCodec(CodecMode mode, absl::Duration timeout);
  absl::StatusOr<StatusSnapshot> Snapshot(absl::Duration timeout);
  // Until when the loop vouches for itself: it has turned a moment ago, or is in a step that may
  // take so long. 0: it never turned. Any thread.
  int64_t alive_until_ns() const { return driver_->alive_until_ns(); }
  // Ends Run() as it is: for a planned restart, after which the guard takes over.
  absl::Status Stop(absl::Duration timeout);

 private:
  struct Command {
    enum class Kind : uint8_t { kUnprotect, kHandover, kSetInterval, kSetCodec, kSnapshot, kStop };
    Kind kind = Kind::kSnapshot;
    int64_t interval_ns = 0;
    CodecMode codec = CodecMode::kOff;
  };
  struct Reply {
    absl::Status status;
    std::optional<StatusSnapshot> snapshot;
  };

  EngineLoop(EngineOptions options, EngineSeams seams);

  absl::Status Open();
  int64_t BeatNs() const;
  absl::Status OpenDriver();
  absl::Status Ask(const Command& command, absl::Duration timeout);
  Reply Serve(const Command& command);
  bool Over() const;
  void Turn();
  void Vouch();
  void FollowLink();
  void WatchGuests();
  bool WaitsUnannounced() const;
  void Wait();

  const EngineOptions options_;
  const EngineSeams seams_;
  const Clock& clock_;
  SystemIds ids_;
  bool stop_ = false;

  // In the order in which they depend on each other: each uses only what stands above it.
  std::unique_ptr<Mailbox<Command, Reply>> mailbox_;
  std::unique_ptr<StatusPublisher> publisher_;
  std::unique_ptr<PrimaryStatus> status_;
  std::unique_ptr<HeartbeatPump> pump_;
  std::unique_ptr<TransportBackupConnector> connector_;
  std::unique_ptr<ThreadArbiterPort> arbiter_;
  std::unique_ptr<CopyPool> pool_;
  std::unique_ptr<PrimaryDriver> driver_;

  std::optional<PollSet> poll_;
  std::optional<PollSet>
      guests_;  // The guests' descriptors, part of poll_ while guests stop or start.
  bool guests_watched_ = false;
  bool guests_announce_ = true;  // Each of them has a descriptor.

  // The link whose descriptor is watched and whose lane beats; names, since addresses come again.
  SessionId followed_session_ = kNoSession;
  LinkNumber followed_link_ = kNoLink;
  // Of the loop's own: it is watched until it is taken off, whatever has become of the link and
  // whatever other thread opens a descriptor meanwhile.
  UniqueFd followed_fd_;
  int64_t busy_since_ns_ = 0;  // 0: not busy.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_ENGINE_LOOP_H_
