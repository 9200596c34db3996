// SPDX-License-Identifier: Apache-2.0
//
// The heartbeat section: one cache line that each side writes into the other's memory every few
// milliseconds (DESIGN.md section 7, docs/replica-format.md).
#ifndef HAVEN_ENGINE_REPLICA_HEARTBEAT_H_
#define HAVEN_ENGINE_REPLICA_HEARTBEAT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/identity.h"

namespace haven {

inline constexpr size_t kHeartbeatBytes = 64;

// What the primary says it is doing.
enum class PrimaryState : uint32_t {
  kUnprotected =
      1,           // No epoch is replicated (the output passes, or is held by the register's word).
  kSyncing = 2,    // The replica is being filled; it can not be promoted.
  kProtected = 3,  // Epochs are committed, output is released after them.
  kDegraded = 4,   // Promotable, but something that protects is missing.
  kPaused = 5,     // The guests are stopped until an acknowledgement, a grant or deposition.
  kDeposed = 6,    // Another owner was seen in the register.
};

// What the backup says it is doing.
enum class BackupState : uint32_t {
  kSyncing = 1,     // The replica is not complete yet.
  kStandby = 2,     // Complete; committed epochs are applied.
  kSuspecting = 3,  // No sign of life from the primary for part of the detection time, or more.
  kPromoting = 4,   // The register was asked, or has granted, the promotion.
  kFailed = 5,      // The replica is lost; this session can not be promoted any more.
};

// Which side writes a section; the two have different magics and states.
enum class HeartbeatSender : uint8_t { kPrimary = 1, kBackup = 2 };

// True if `state` is one of PrimaryState's or BackupState's values, as the sender has it.
bool IsKnownState(HeartbeatSender sender, uint32_t state);

struct Heartbeat {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  uint32_t state = 0;    // PrimaryState or BackupState, by the sender.
  uint64_t counter = 0;  // Grows by one with every heartbeat of the session; the first is 1.

  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
};

// Writes the section. Does not allocate.
void EncodeHeartbeat(HeartbeatSender sender, const Heartbeat& heartbeat,
                     std::span<std::byte, kHeartbeatBytes> out);

// Reads a section that the peer may be writing at this moment; the bytes are copied before they are
// checked. `*out` is set only if OK. Does not allocate if OK. The caller compares session and link
// with its own. Errors, as for every section of control block and peer block:
//   NotFound         never written (all bytes zero).
//   DataLoss         the CRC does not fit: torn, being written; look again later.
//   InvalidArgument  the CRC fits and a field is wrong: names the field and its value. Also for
//                    a span shorter than the section.
absl::Status DecodeHeartbeat(HeartbeatSender sender, std::span<const std::byte> in, Heartbeat* out);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_HEARTBEAT_H_
