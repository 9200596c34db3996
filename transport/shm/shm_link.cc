// SPDX-License-Identifier: Apache-2.0
//
// Making, revoking and ending a link. Posting and polling: shm_link_datapath.cc.
#include "transport/shm/shm_link.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

LinkLane& LaneOf(const SharedMemory& memory, uint32_t index) {
  HAVEN_CHECK_GE(memory.bytes().size(), sizeof(LinkMemory));
  return reinterpret_cast<LinkMemory*>(memory.bytes().data())->lanes.at(index);
}

}  // namespace

ShmLink::Statuses ShmLink::MakeStatuses(pid_t peer) {
  const std::string link = absl::StrCat("shm link to pid ", peer, ": ");
  Statuses statuses;
  statuses.queue_full = absl::ResourceExhaustedError(
      absl::StrCat(link, "the queue of ", CompletionQueue::kDepth,
                   " requests is full; poll completions, then post again"));
  statuses.receives_full = absl::ResourceExhaustedError(
      absl::StrCat(link, "more than ", kMaxReceives, " receives would be posted"));
  statuses.list_too_long = absl::InvalidArgumentError(absl::StrCat(
      link, "one list may hold at most ", CompletionQueue::kDepth, " requests; post it in parts"));
  statuses.out_of_bounds = absl::InvalidArgumentError(
      absl::StrCat(link, "a request names no region, leaves its region, or exceeds ",
                   kShmMaxTransferBytes, " bytes; nothing was posted"));
  const auto failed = [&](Failure failure, absl::string_view why) {
    statuses.failed[static_cast<size_t>(failure)] =
        absl::UnavailableError(absl::StrCat(link, why, "; make a new link"));
  };
  failed(Failure::kPeerGone, "the peer is dead or has given the link up");
  failed(Failure::kNoReceive, "an immediate was sent for which the peer had posted no receive");
  failed(Failure::kCorrupt, "the peer has written nonsense into the link's memory");
  failed(Failure::kRevoked, "it was revoked");
  return statuses;
}

ShmLink::ShmLink(ShmLinkParts parts)
    : parts_(std::move(parts)),
      sender_(LaneOf(parts_.memory, parts_.sending_lane)),
      receiver_(LaneOf(parts_.memory, 1 - parts_.sending_lane)),
      statuses_(MakeStatuses(parts_.peer->pid())) {}

// Closing the wake-up socket afterwards rouses a peer that sleeps on its end.
ShmLink::~ShmLink() { sender_.Close(); }

absl::Status ShmLink::Revoke() {
  HAVEN_RETURN_IF_ERROR(parts_.peer->Kill(kRevokeTimeout));
  failure_ = Failure::kRevoked;
  failure_reported_ = true;
  return absl::OkStatus();
}

}  // namespace haven
