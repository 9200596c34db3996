// SPDX-License-Identifier: Apache-2.0
//
// The peer block: 4096 bytes in the primary's memory, written by the backup
// (docs/replica-format.md).
//
//   offset 0      acknowledgement, 128 bytes
//   offset 128    heartbeat of the backup, 64 bytes (heartbeat.h)
//
// The rest is reserved: nobody writes or reads it. Each section is written by one WRITE and carries
// its own CRC32C; a section caught while it is being written fails its CRC and is looked at again
// later.
#ifndef HAVEN_ENGINE_REPLICA_PEER_BLOCK_H_
#define HAVEN_ENGINE_REPLICA_PEER_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/heartbeat.h"
#include "engine/replica/identity.h"

namespace haven {

inline constexpr uint64_t kPeerBlockBytes = 4096;
inline constexpr uint64_t kAckOffset = 0;
inline constexpr size_t kAckBytes = 128;
inline constexpr uint64_t kBackupHeartbeatOffset = 128;

static_assert(kAckOffset + kAckBytes <= kBackupHeartbeatOffset);
static_assert(kBackupHeartbeatOffset + kHeartbeatBytes <= kPeerBlockBytes);

// What the backup has. Every value but `link`, `credits_granted` and `state` only grows within a
// session; `credits_granted` only grows within a link.
struct Ack {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  BackupState state = BackupState::kSyncing;
  Epoch committed_epoch = kNoEpoch;  // The last one that is good: its output may be released.
  Epoch applied_epoch = kNoEpoch;    // The last one that is in the replica's memory; <= committed.
  RingPosition ring_tail = 0;        // Ring slots below this position may be written again.
  uint64_t credits_granted = 0;      // Immediates that the backup has made room for on this link.

  friend bool operator==(const Ack&, const Ack&) = default;
};

// Writes the section. Does not allocate.
void EncodeAck(const Ack& ack, std::span<std::byte, kAckBytes> out);

// Reads a section that the peer may be writing at this moment; the bytes are copied before they are
// checked. `*out` is set only if OK. Does not allocate if OK. The caller compares session and link
// with its own, and the growth with what it saw before. Errors as for DecodeHeartbeat().
absl::Status DecodeAck(std::span<const std::byte> in, Ack* out);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_PEER_BLOCK_H_
