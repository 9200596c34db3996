// SPDX-License-Identifier: Apache-2.0
//
// The messages of the control channel: handshake, links, extents, liveness and the end of a session
// (DESIGN.md sections 5 and 7, docs/replica-format.md). The channel delivers them in order and
// authenticated; what is in them is still checked like any input from outside.
#ifndef HAVEN_ENGINE_REPLICA_CONTROL_MESSAGE_H_
#define HAVEN_ENGINE_REPLICA_CONTROL_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/replica/features.h"
#include "engine/replica/heartbeat.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

inline constexpr size_t kMaxControlMessageBytes = size_t{1} << 20;  // Envelope included.
inline constexpr size_t kControlEnvelopeBytes = 12;

inline constexpr size_t kMaxNodeIdBytes = 63;
inline constexpr size_t kMaxDomainNameBytes = 127;
inline constexpr size_t kUuidBytes = 36;
inline constexpr size_t kMaxConfigBytes = size_t{64} << 10;
inline constexpr size_t kMaxRamRuns = 4096;
inline constexpr size_t kMaxBlobBytes = 4096;
inline constexpr size_t kMaxAddressBytes = 255;
inline constexpr size_t kMaxTextBytes = 1024;
inline constexpr size_t kMaxLanes = 4;
inline constexpr uint64_t kMinDetectNs = uint64_t{1'000'000};
inline constexpr uint64_t kMaxDurationNs = uint64_t{3'600'000'000'000};

// Rules shared by the messages below:
//  - node id, group: 1 .. 63 bytes of [A-Za-z0-9._-];
//  - address: 0 .. 255 printable ASCII bytes, a meaning known only to the fabric;
//  - blob: 0 .. 4096 bytes that only the fabric understands;
//  - text: 0 .. 1024 printable ASCII bytes for a human reader. EncodeControlMessage() cuts a longer
//  one
//    and replaces other bytes by '?', so that a report of an error can not itself fail;
//  - session, link, epoch: never 0 unless it says so.
using Blob = std::vector<std::byte>;

// A run of frames that are RAM.
struct RamRun {
  Gfn first_gfn = 0;
  uint64_t pages = 0;  // At least 1.

  friend bool operator==(const RamRun&, const RamRun&) = default;
};

struct HelloDomain {
  std::string name;              // 1 .. 127 printable ASCII bytes.
  std::string uuid;              // 8-4-4-4-12 lower-case hexadecimal digits.
  std::string config;            // Up to 64 KiB, opaque.
  uint64_t page_count = 0;       // Highest frame number plus one, 1 .. kMaxDomainPages.
  uint32_t max_state_bytes = 0;  // 1 .. kMaxStateBytes.
  std::vector<RamRun> ram;       // 1 .. 4096 runs, ascending, without overlap, below page_count.

  friend bool operator==(const HelloDomain&, const HelloDomain&) = default;
};

// Primary to backup, the first message: asks to protect a group.
struct Hello {
  FeatureOffer offer;
  std::string node_id;
  std::string group;
  SessionId session = kNoSession;  // The new one.
  SessionId base_session =
      kNoSession;                    // A replica that the backup may still have, and the epoch from
  Epoch base_epoch = kNoEpoch;       // which a delta would do; both 0: none.
  uint32_t slot_bytes = 0;           // As in JournalGeometry.
  uint32_t max_epoch_slots = 0;      // Slots of the largest epoch, at least 1.
  uint64_t detect_ns = 0;            // Detection time, 1 ms .. 1 h.
  uint64_t interval_ns = 0;          // Epoch interval, 0 .. 1 h.
  std::string return_address;        // Where this node listens as a backup; may be empty.
  std::vector<HelloDomain> domains;  // 1 .. kMaxDomains; no name and no uuid twice.

  friend bool operator==(const Hello&, const Hello&) = default;
};

// Backup to primary: the answer to Hello.
struct Welcome {
  FeatureAgreement agreement;
  std::string node_id;
  SessionId session = kNoSession;
  JournalGeometry geometry;     // Valid.
  Blob journal_region;          // How to address the journal.
  std::string session_address;  // Where the session's links are made.
  bool base_accepted = false;   // A delta is enough ...
  Epoch base_epoch = kNoEpoch;  // ... from this epoch; 0 exactly if not accepted.

  friend bool operator==(const Welcome&, const Welcome&) = default;
};

enum class RefuseCode : uint16_t {
  kVersion = 1,    // No common format version.
  kFeature = 2,    // A required feature is not there.
  kGroupBusy = 3,  // The group, or one of its domains, is protected here already.
  kMemory = 4,     // Too little memory, or it can not be registered.
  kGeometry = 5,   // The journal can not have the sizes that are needed.
  kDomain = 6,     // A domain can not be built here.
  kAuth = 7,       // This peer may not do that.
  kNotReady = 8,   // Starting, stopping, or still busy with the last session: try again.
  kPromoted = 9,   // The group runs here: the asker is deposed.
  kInternal = 10,  // A fault of the refusing side.
};

// Both ways: no, and why.
struct Refuse {
  RefuseCode code = RefuseCode::kInternal;
  std::string message;  // Text.

  friend bool operator==(const Refuse&, const Refuse&) = default;
};

// Primary to backup: a new link. Every older one is destroyed on the sender's side.
struct LinkRequest {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Blob peer_region;  // How to address the peer block.

  friend bool operator==(const LinkRequest&, const LinkRequest&) = default;
};

// Backup to primary: what it has, and where to connect. Every older link is destroyed here, too.
struct LinkOffer {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Epoch committed_epoch = kNoEpoch;  // 0: none yet.
  Epoch applied_epoch = kNoEpoch;    // At most committed_epoch.
  RingPosition next_position = 0;    // Where the next epoch begins.
  RingPosition ring_tail = 0;        // At most next_position.
  std::vector<Blob> lanes;           // 1 .. kMaxLanes connections.

  friend bool operator==(const LinkOffer&, const LinkOffer&) = default;
};

// Primary to backup: connected; epochs of this link may follow.
struct LinkReady {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;

  friend bool operator==(const LinkReady&, const LinkReady&) = default;
};

// Primary to backup: an epoch does not fit the ring.
struct ExtentRequest {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Epoch epoch = kNoEpoch;
  uint32_t extents = 0;  // How many, 1 .. kMaxEpochExtents.

  friend bool operator==(const ExtentRequest&, const ExtentRequest&) = default;
};

// Backup to primary: extents for that epoch; none: not now. The receiver checks that they exist in
// its geometry.
struct ExtentGrant {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Epoch epoch = kNoEpoch;
  std::vector<uint32_t> extents;  // 0 .. kMaxEpochExtents indices, none twice.

  friend bool operator==(const ExtentGrant&, const ExtentGrant&) = default;
};

// Both ways: the heartbeat of heartbeat.h on the control channel.
struct HeartbeatMessage {
  SessionId session = kNoSession;
  HeartbeatSender sender = HeartbeatSender::kPrimary;
  uint32_t state = 0;    // PrimaryState or BackupState, by the sender.
  uint64_t counter = 0;  // At least 1.

  friend bool operator==(const HeartbeatMessage&, const HeartbeatMessage&) = default;
};

// Primary to backup: promote yourself from this epoch, the last one.
struct Handover {
  SessionId session = kNoSession;
  Epoch epoch = kNoEpoch;

  friend bool operator==(const Handover&, const Handover&) = default;
};

// Backup to primary: not promoted, the register is unchanged; go on.
struct HandoverRefused {
  SessionId session = kNoSession;
  std::string reason;  // Text.

  friend bool operator==(const HandoverRefused&, const HandoverRefused&) = default;
};

// Backup to primary: the register says that this backup is the owner.
struct Promoted {
  SessionId session = kNoSession;
  Term term = 0;  // At least 1.

  friend bool operator==(const Promoted&, const Promoted&) = default;
};

enum class DropReason : uint16_t {
  kUnprotect = 1,     // The operator, or the guest's own end, ended the protection.
  kShutdown = 2,      // The sending process stops.
  kDeposed = 3,       // Another owner was seen in the register.
  kSolo = 4,          // The register says solo: this replica is out of date for good.
  kProtocol = 5,      // The other side broke the format or the order of the protocol.
  kVerification = 6,  // An epoch failed its checks.
  kReplica = 7,       // The replica was lost.
  kTimeout = 8,       // A deadline ran out.
  kInternal = 9,      // A fault of the sending side.
};

// Both ways: the session is over for the sender.
struct Drop {
  SessionId session = kNoSession;
  DropReason reason = DropReason::kInternal;
  std::string message;  // Text.

  friend bool operator==(const Drop&, const Drop&) = default;
};

// The order is that of the type numbers on the wire: alternative i has type i + 1.
using ControlMessage =
    std::variant<Hello, Welcome, Refuse, LinkRequest, LinkOffer, LinkReady, ExtentRequest,
                 ExtentGrant, HeartbeatMessage, Handover, HandoverRefused, Promoted, Drop>;

// For messages and logs: "Hello", "Welcome", ...; "group-busy", ...; "verification", ....
absl::string_view ControlMessageName(const ControlMessage& message);
absl::string_view RefuseCodeName(RefuseCode code);
absl::string_view DropReasonName(DropReason reason);

// The message with its envelope. InvalidArgument: a field breaks its rule, or the whole is larger
// than kMaxControlMessageBytes (too much configuration or too many RAM runs): names message, field
// and value.
absl::StatusOr<std::vector<std::byte>> EncodeControlMessage(const ControlMessage& message);

// Size of the whole message whose first kControlEnvelopeBytes bytes are `envelope`, for channels
// that must cut a stream into messages. InvalidArgument: not an envelope of ours, or larger than
// kMaxControlMessageBytes.
absl::StatusOr<size_t> ControlMessageBytes(std::span<const std::byte> envelope);

// Reads one whole message. InvalidArgument: magic, envelope version, type, length, a field that
// breaks its rule, or bytes left over; names message, field and value.
absl::StatusOr<ControlMessage> DecodeControlMessage(std::span<const std::byte> in);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CONTROL_MESSAGE_H_
