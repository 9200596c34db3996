// SPDX-License-Identifier: Apache-2.0
//
// Takes captured epochs through encode, journal room and wire to their acknowledgement.
#ifndef HAVEN_ENGINE_PRIMARY_EPOCH_SHIPPER_H_
#define HAVEN_ENGINE_PRIMARY_EPOCH_SHIPPER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/primary/epoch_builder.h"
#include "engine/primary/epoch_sender.h"
#include "engine/primary/primary_actions.h"
#include "engine/replica/layout.h"
#include "engine/replica/peer_block.h"
#include "transport/fabric.h"

namespace haven {

// The registered memory and the agreed sizes of one session, as the primary has them.
struct SessionMemory {
  SessionId session = kNoSession;
  JournalGeometry geometry;
  RemoteRegion journal;    // The backup's region.
  uint64_t features = 0;   // As agreed on: features.h.
  SealKey seal_key = {};   // If sealing was agreed on.
  LocalRegion staging;     // Captured pages, and the chunks of plain epochs; slot after slot.
  LocalRegion image = {};  // The chunks of coded epochs: as large as staging, or absent.
  LocalRegion scratch;     // EpochSender::kScratchBytes, then kHeartbeatBytes for the heartbeat.
  LocalRegion peer_block;  // kPeerBlockBytes, written by the backup.
  uint32_t max_write_bytes = 0;
  uint16_t domain_count = 0;
};

// Why a link is of no more use.
enum class LinkFailure : uint8_t {
  kNone,
  kPermission,  // The backup has taken the permission away.
  kNoAnswer,    // It does not answer, or has ended the link.
  kOther,
  kMalformed,  // Its acknowledgement breaks the format.
  kNonsense,   // It says of an epoch what it can not know.
};
// Words for a message: "the backup does not answer, or has ended the link", ...
const char* LinkFailureText(LinkFailure failure);

// One session's journal as the primary sees it: which ring slots are free, what is on the wire,
// what the backup has acknowledged. No clock, no wait: the caller polls. Allocates in the
// constructor only. Used by the epoch thread.
class EpochShipper {
 public:
  // `builder` stages in memory.staging and outlives this object, and `records`, which seals the
  // commit records; null: they stay plain.
  EpochShipper(const SessionMemory& memory, EpochBuilder& builder, ChunkSealer* records = nullptr);

  // Starts on a new link, of which the backup has said where the next epoch begins and what is
  // free. `link` outlives EndLink(). InvalidArgument: the positions make no sense. Unavailable:
  // link failed.
  absl::Status BeginLink(LinkNumber number, Link& link, RingPosition next, RingPosition tail);
  void EndLink();

  // Encodes what the builder has captured and queues it for the wire. A link is up and nothing is
  // under way (checked).
  EncodeResult Ship(const SendOrder& order);

  // What Poll() has found since the last call.
  struct News {
    bool failed = false;          // The link is of no more use.
    bool progress = false;        // Completions, credits or room have moved.
    bool wired = false;           // The commit record has arrived as far as the fabric knows.
    Epoch committed = kNoEpoch;   // New acknowledgement on this link.
    uint32_t extents_wanted = 0;  // Ask for so many; said once for each Ship().
  };
  News Poll();

  // The backup's answer to a request for extents of `epoch`, which it gives when it has them.
  // InvalidArgument: an index that does not exist, or another number than was asked for.
  absl::Status OnExtents(LinkNumber link, Epoch epoch, std::span<const uint32_t> extents);

  // Of the present link, or the last one.
  LinkFailure failure() const { return failure_; }

  bool waiting_for_room() const { return stage_ == Stage::kNeedsRoom; }
  const SessionMemory& memory() const { return memory_; }

  // Ring and pool together: a checkpoint of more slots can never be sent.
  uint64_t journal_slots() const;

 private:
  enum class Stage : uint8_t { kIdle, kNeedsRoom, kOnWire };

  void ReadAck(News* news);
  bool HasRoom() const;
  void Fail(LinkFailure failure);

  static constexpr uint32_t kReceives = 64;

  const SessionMemory memory_;
  EpochBuilder& builder_;
  ChunkSealer* const records_;
  std::optional<EpochSender> sender_;
  Link* link_ = nullptr;
  LinkNumber number_ = kNoLink;
  std::array<std::byte, kAckBytes> last_section_{};

  Stage stage_ = Stage::kIdle;
  SendOrder order_;
  SendSpec spec_;
  RingPosition next_ = 0;
  RingPosition tail_ = 0;
  uint32_t extents_needed_ = 0;
  bool ask_extents_ = false;
  LinkFailure failure_ = LinkFailure::kNone;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_EPOCH_SHIPPER_H_
