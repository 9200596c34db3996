// SPDX-License-Identifier: Apache-2.0
//
// The control block: the first 4096 bytes of the journal region, written by the primary
// (docs/replica-format.md). Its parts are written by single WRITEs and carry their own CRC32C.
//
//   offset 0      heartbeat of the primary, 64 bytes (heartbeat.h)
//   offset 1024   commit slot 0, 1024 bytes, the record at its start (commit_record.h), and behind
//                 it the tag if it is sealed (chunk_seal.h)
//   offset 2048   commit slot 1
//
// The bytes between are reserved: nobody writes or reads them.
#ifndef HAVEN_ENGINE_REPLICA_CONTROL_BLOCK_H_
#define HAVEN_ENGINE_REPLICA_CONTROL_BLOCK_H_

#include <cstdint>

#include "engine/replica/chunk.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/heartbeat.h"
#include "engine/replica/layout.h"

namespace haven {

inline constexpr uint64_t kPrimaryHeartbeatOffset = 0;
inline constexpr uint64_t kCommitSlotsOffset = 1024;
inline constexpr uint64_t kCommitSlotBytes = 1024;
inline constexpr uint64_t kCommitSlots = 2;

static_assert(kPrimaryHeartbeatOffset + kHeartbeatBytes <= kCommitSlotsOffset);
// A sealed record is followed by its tag.
inline constexpr uint64_t kSealedRecordBytes = kCommitRecordBytes + kSealTagBytes;
static_assert(kSealedRecordBytes <= kCommitSlotBytes);
static_assert(kCommitSlotsOffset + kCommitSlots * kCommitSlotBytes <= kControlBlockBytes);

// Offset in the region of the slot for the record with this commit index. Two slots in turn: the
// record of an epoch stays readable while the next one is being written.
inline constexpr uint64_t CommitSlotOffset(uint64_t commit_index) {
  return kCommitSlotsOffset + commit_index % kCommitSlots * kCommitSlotBytes;
}

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CONTROL_BLOCK_H_
