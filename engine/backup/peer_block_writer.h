// SPDX-License-Identifier: Apache-2.0
//
// Writes the backup's sections of the peer block into the primary's memory (DESIGN.md section 5).
#ifndef HAVEN_ENGINE_BACKUP_PEER_BLOCK_WRITER_H_
#define HAVEN_ENGINE_BACKUP_PEER_BLOCK_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/heartbeat.h"
#include "engine/replica/identity.h"
#include "engine/replica/peer_block.h"
#include "transport/fabric.h"

namespace haven {

// Sends one small section again and again by WRITEs. Each WRITE has a buffer of its own until its
// completion, because the source of a WRITE must not change before. Building block of the two
// writers below; same rules.
class SectionLane {
 public:
  static constexpr uint32_t kBuffers = 4;
  static constexpr size_t kBufferBytes = 128;  // A section is at most this large.
  static constexpr size_t kScratchBytes = kBuffers * kBufferBytes;

  // `scratch` has at least kScratchBytes from `scratch_offset` on (checked), used by nobody else.
  // WRITEs carry the ids first_id .. first_id + kBuffers - 1.
  SectionLane(const LocalRegion& scratch, uint64_t scratch_offset, const RemoteRegion& remote,
              uint64_t remote_offset, uint64_t first_id);

  // All buffers are free: the queue pair they were posted on is destroyed.
  void Reset() { outstanding_ = 0; }

  bool has_buffer() const { return outstanding_ != (1u << kBuffers) - 1; }

  // The buffer of the next Post(); has_buffer() is true (checked).
  std::span<std::byte> buffer() const;

  // Posts the first `bytes` of buffer(). Errors of Link::PostWrites(); the buffer then stays free.
  absl::Status Post(Link& link, uint32_t bytes, bool wake, uint32_t immediate);

  bool owns(uint64_t id) const { return id >= first_id_ && id < first_id_ + kBuffers; }

  // The WRITE with this id is complete; owns(id) is true (checked).
  void Complete(uint64_t id);

 private:
  uint32_t NextBuffer() const;

  LocalRegion scratch_;
  uint64_t scratch_offset_;
  RemoteRegion remote_;
  uint64_t remote_offset_;
  uint64_t first_id_;
  uint32_t outstanding_ = 0;  // One bit a buffer.
};

// Keeps the acknowledgement section up to date. The section always carries everything, so a newer
// one replaces all before; if every buffer is on its way, the newest values go out with the next
// completion. Belongs to the thread of its link. Allocates nothing.
class PeerBlockWriter {
 public:
  static constexpr size_t kScratchBytes = SectionLane::kScratchBytes;
  // Ids of this writer's WRITEs on its link: kFirstId .. kFirstId + SectionLane::kBuffers - 1.
  static constexpr uint64_t kFirstId = 0x61636b00;

  // `scratch` is registered memory of at least scratch_offset + kScratchBytes; `peer_block` is the
  // primary's region, at least kPeerBlockBytes (both checked).
  PeerBlockWriter(SessionId session, const LocalRegion& scratch, uint64_t scratch_offset,
                  const RemoteRegion& peer_block);

  // Starts on a new link, whose queue pairs replace all older ones; `link` outlives the next
  // BeginLink() or EndLink(). Credits count from 0 again. Nothing is sent before Publish().
  void BeginLink(LinkNumber number, Link* link);

  // The link is gone. Setters still count, nothing is sent.
  void EndLink();

  // Values for the next Publish(). None but the state may go back (checked).
  void SetState(BackupState state) { ack_.state = state; }
  void SetCommitted(Epoch epoch);
  void SetApplied(Epoch epoch, RingPosition ring_tail);

  // Posts `count` receives, and only then raises the credits in the section. Errors of
  // PostReceives().
  absl::Status GrantCredits(uint32_t count);

  // Sends the section as it is now. With `wake` the WRITE ends with an immediate (the low 32 bits
  // of the committed epoch), which takes one of the primary's receives and wakes it: for a new
  // committed epoch, and for what a waiting primary waits for. OK also if the section has to wait
  // for a buffer. Unavailable: the link has failed, or there is none.
  absl::Status Publish(bool wake);

  // Takes a completion of the link. True if it was one of this writer's; `*status` is then OK, or
  // Unavailable with its result: the link has failed. Sends what has waited for the buffer.
  bool OnCompletion(const Completion& completion, absl::Status* status);

  // What was last set, sent or not.
  const Ack& ack() const { return ack_; }

  // True if something is waiting for a buffer or for room in the link's queue: call Flush() after
  // the next Poll() of the link, or wait for OnCompletion().
  bool pending() const { return pending_; }
  absl::Status Flush();

 private:
  SectionLane lane_;
  Ack ack_;
  Link* link_ = nullptr;
  bool pending_ = false;
  bool pending_wake_ = false;
};

// Sends the backup's heartbeats, on a link and in a thread of their own if the driver likes: it
// shares nothing with PeerBlockWriter. Belongs to the thread of its link. Allocates nothing.
class PeerHeartbeatWriter {
 public:
  static constexpr size_t kScratchBytes = SectionLane::kScratchBytes;
  static constexpr uint64_t kFirstId = 0x68627400;

  // As for PeerBlockWriter; another part of the scratch. `last_counter`: of the session's last
  // heartbeat by another writer.
  PeerHeartbeatWriter(SessionId session, const LocalRegion& scratch, uint64_t scratch_offset,
                      const RemoteRegion& peer_block, uint64_t last_counter = 0);

  // As for PeerBlockWriter. The counter goes on: it grows over the whole session.
  void BeginLink(LinkNumber number, Link* link);
  void EndLink();

  // Counts one beat and sends it. If every buffer is on its way the beat is counted and not sent:
  // the primary sees the same as if it were late. Unavailable: the link has failed, or there is
  // none.
  absl::Status Beat(BackupState state);

  // As for PeerBlockWriter.
  bool OnCompletion(const Completion& completion, absl::Status* status);

  uint64_t counter() const { return heartbeat_.counter; }

 private:
  SectionLane lane_;
  Heartbeat heartbeat_;
  Link* link_ = nullptr;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_PEER_BLOCK_WRITER_H_
