// SPDX-License-Identifier: Apache-2.0
//
// The fields of the messages within a session and the rules that tie them together.
#ifndef HAVEN_ENGINE_REPLICA_SESSION_FIELDS_H_
#define HAVEN_ENGINE_REPLICA_SESSION_FIELDS_H_

#include <algorithm>
#include <cstdint>

#include "engine/replica/control_message.h"
#include "engine/replica/handshake_fields.h"
#include "engine/replica/message_codec.h"

namespace haven {

// No journal has more extents: the smallest slots, one an extent, in the largest region.
inline constexpr uint32_t kMaxExtentIndex = kMaxJournalBytes / kMinSlotBytes - 1;

// `message` begins with its session and its link.
template <typename Codec, typename Message>
void TransferLinkNames(Codec& codec, Message& message) {
  codec.Number("session", message.session, 1, kAnyU64);
  codec.Number("link", message.link, 1, kAnyU32);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, LinkRequest>& request) {
  TransferLinkNames(codec, request);
  codec.Bytes("peer_region", request.peer_region, kMaxBlobBytes);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, LinkOffer>& offer) {
  TransferLinkNames(codec, offer);
  codec.Number("committed_epoch", offer.committed_epoch, 0, kAnyU64);
  codec.Number("applied_epoch", offer.applied_epoch, 0, kAnyU64);
  codec.Require(offer.applied_epoch <= offer.committed_epoch, "applied_epoch", offer.applied_epoch,
                "at most committed_epoch");
  codec.Number("next_position", offer.next_position, 0, kAnyU64);
  codec.Number("ring_tail", offer.ring_tail, 0, kAnyU64);
  codec.Require(offer.ring_tail <= offer.next_position, "ring_tail", offer.ring_tail,
                "at most next_position");
  codec.List("lanes", offer.lanes, 1, kMaxLanes,
             [&](auto& lane) { codec.Bytes("", lane, kMaxBlobBytes); });
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, LinkReady>& ready) {
  TransferLinkNames(codec, ready);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, ExtentRequest>& request) {
  TransferLinkNames(codec, request);
  codec.Number("epoch", request.epoch, 1, kAnyU64);
  codec.Number("extents", request.extents, 1, kMaxEpochExtents);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, ExtentGrant>& grant) {
  TransferLinkNames(codec, grant);
  codec.Number("epoch", grant.epoch, 1, kAnyU64);
  codec.List("extents", grant.extents, 0, kMaxEpochExtents, [&](auto& extent) {
    codec.Number("", extent, 0, kMaxExtentIndex);
    codec.Require(std::find(grant.extents.data(), &extent, extent) == &extent, "", extent,
                  "named only once");
  });
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, HeartbeatMessage>& heartbeat) {
  codec.Number("session", heartbeat.session, 1, kAnyU64);
  codec.Enum("sender", heartbeat.sender, HeartbeatSender::kPrimary, HeartbeatSender::kBackup);
  codec.Number("state", heartbeat.state, 0, kAnyU32);
  codec.Require(IsKnownState(heartbeat.sender, heartbeat.state), "state", heartbeat.state,
                "a known state of the sender");
  codec.Number("counter", heartbeat.counter, 1, kAnyU64);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, Handover>& handover) {
  codec.Number("session", handover.session, 1, kAnyU64);
  codec.Number("epoch", handover.epoch, 1, kAnyU64);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, HandoverRefused>& refused) {
  codec.Number("session", refused.session, 1, kAnyU64);
  codec.Text("reason", refused.reason, kMaxTextBytes);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, Promoted>& promoted) {
  codec.Number("session", promoted.session, 1, kAnyU64);
  codec.Number("term", promoted.term, 1, kAnyU64);
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, Drop>& drop) {
  codec.Number("session", drop.session, 1, kAnyU64);
  codec.Enum("reason", drop.reason, DropReason::kUnprotect, DropReason::kInternal);
  codec.Text("message", drop.message, kMaxTextBytes);
}

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_SESSION_FIELDS_H_
