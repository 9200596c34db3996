// SPDX-License-Identifier: Apache-2.0
//
// Making, revoking and ending a link. Posting and polling: verbs_link_datapath.cc.
#include "transport/verbs/verbs_link.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"

namespace haven {

VerbsLink::Statuses VerbsLink::MakeStatuses(const QueuePair& pair) {
  const std::string link = absl::StrCat(pair.Describe(), ": ");
  const QueuePairLimits& limits = pair.limits();
  Statuses statuses;
  statuses.queue_full =
      absl::ResourceExhaustedError(absl::StrCat(link, "the queue of ", limits.send_depth,
                                                " requests is full; poll completions, then post "
                                                "again"));
  statuses.receives_full = absl::ResourceExhaustedError(
      absl::StrCat(link, "more than ", limits.receive_depth, " receives would be posted"));
  statuses.list_too_long = absl::InvalidArgumentError(absl::StrCat(
      link, "one list may hold at most ", limits.send_depth, " requests; post it in parts"));
  statuses.out_of_bounds = absl::InvalidArgumentError(
      absl::StrCat(link, "a request names no region, leaves its region, or exceeds ",
                   limits.write_bytes, " bytes; nothing was posted"));
  const auto failed = [&](Failure failure, absl::string_view why) {
    statuses.failed[static_cast<size_t>(failure)] =
        absl::UnavailableError(absl::StrCat(link, why, "; make a new link"));
  };
  failed(Failure::kRefused, "the peer refuses access: it may have taken the permission away");
  failed(Failure::kNoAnswer, "the peer does not answer, or posts no receives");
  failed(Failure::kDisconnected, "the peer has given the link up, or the device has gone");
  failed(Failure::kDeadline, "a request was outstanding for too long");
  failed(Failure::kDevice, "the device has failed a request");
  failed(Failure::kRevoked, "it was revoked");
  return statuses;
}

VerbsLink::VerbsLink(VerbsLinkParts parts)
    : parts_(std::move(parts)),
      statuses_(MakeStatuses(*parts_.pair)),
      sends_(parts_.pair->limits().send_depth) {}

VerbsLink::~VerbsLink() {
  const absl::Status destroyed = parts_.pair->Destroy();
  if (!destroyed.ok()) parts_.owner->NoteUndestroyed(destroyed);
}

void VerbsLink::Retire() {
  failure_ = Failure::kRevoked;
  failure_reported_ = true;
  const absl::Status destroyed = parts_.pair->Destroy();
  if (!destroyed.ok()) HAVEN_LOG(kWarning, "verbs") << destroyed;
}

absl::Status VerbsLink::Revoke() {
  const absl::Status taken = parts_.pair->TakePermission();
  if (!taken.ok()) {
    // The destruction is the proof; this only came first to make the gap small.
    HAVEN_LOG(kInfo, "verbs") << taken;
  }
  failure_ = Failure::kRevoked;
  failure_reported_ = true;
  absl::Status proof = parts_.pair->Destroy();
  proof.Update(parts_.owner->CutPending());
  return proof;
}

}  // namespace haven
