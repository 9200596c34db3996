// SPDX-License-Identifier: Apache-2.0
//
// Where a process' one-sided heartbeats go (DESIGN.md section 7).
#ifndef HAVEN_ENGINE_CONTROL_BEAT_LANE_H_
#define HAVEN_ENGINE_CONTROL_BEAT_LANE_H_

#include <cstdint>

#include "engine/backup/peer_block_writer.h"
#include "engine/primary/epoch_shipper.h"
#include "engine/primary/heartbeat_writer.h"
#include "engine/replica/identity.h"
#include "transport/fabric.h"

namespace haven {

// One link's way for heartbeats. Used by one thread at a time; allocates and blocks nowhere.
class BeatLane {
 public:
  virtual ~BeatLane() = default;

  // Sends one heartbeat if it can; a lane that can not is found by whoever misses the beats.
  // `state` is a PrimaryState or BackupState, by the side.
  virtual void Beat(uint32_t state) = 0;

  // Of the last heartbeat sent; a later lane of the same session goes on from here.
  virtual uint64_t counter() const = 0;
  virtual SessionId session() const = 0;
};

// Into the control block of the backup's journal. `link` outlives the lane. `memory` has room for a
// heartbeat behind EpochSender::kScratchBytes of its scratch (checked).
class PrimaryBeatLane final : public BeatLane {
 public:
  static constexpr uint64_t kScratchBytes = EpochSender::kScratchBytes + kHeartbeatBytes;

  PrimaryBeatLane(const SessionMemory& memory, LinkNumber number, uint64_t last_counter,
                  Link& link);

  void Beat(uint32_t state) override;
  uint64_t counter() const override { return writer_.counter(); }
  SessionId session() const override { return session_; }

 private:
  const SessionId session_;
  HeartbeatWriter writer_;
};

// Into the primary's peer block. `link` outlives the lane. `scratch` has room for
// PeerHeartbeatWriter::kScratchBytes behind PeerBlockWriter::kScratchBytes (checked).
class BackupBeatLane final : public BeatLane {
 public:
  static constexpr uint64_t kScratchBytes =
      PeerBlockWriter::kScratchBytes + PeerHeartbeatWriter::kScratchBytes;

  BackupBeatLane(SessionId session, LinkNumber number, uint64_t last_counter,
                 const LocalRegion& scratch, const RemoteRegion& peer_block, Link& link);

  void Beat(uint32_t state) override;
  uint64_t counter() const override { return writer_.counter(); }
  SessionId session() const override { return session_; }

 private:
  const SessionId session_;
  Link& link_;
  PeerHeartbeatWriter writer_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_BEAT_LANE_H_
