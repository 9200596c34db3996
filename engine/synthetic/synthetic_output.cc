// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/synthetic_output.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"

namespace haven {

SyntheticOutput::SyntheticOutput(std::vector<std::shared_ptr<SyntheticConnection>> connections) {
  for (std::shared_ptr<SyntheticConnection>& connection : connections) {
    Member member;
    member.connection = std::move(connection);
    members_.push_back(std::move(member));
  }
}

absl::Status SyntheticOutput::Hold() { return CallAll(GuestOp::kHold, false); }
absl::Status SyntheticOutput::Barrier() { return CallAll(GuestOp::kBarrier, false); }
absl::Status SyntheticOutput::ReleaseOne() { return CallAll(GuestOp::kReleaseOne, false); }
absl::Status SyntheticOutput::OpenAll() { return CallAll(GuestOp::kOpenAll, false); }
absl::Status SyntheticOutput::Rebuild() { return CallAll(GuestOp::kRebuild, false); }
absl::Status SyntheticOutput::Discard() { return CallAll(GuestOp::kDiscard, true); }
absl::Status SyntheticOutput::Remove() { return CallAll(GuestOp::kRemove, true); }

absl::Status SyntheticOutput::CallAll(GuestOp op, bool skip_dead) {
  absl::Status result;
  for (Member& member : members_) {
    member.asked = false;
    if (skip_dead && member.connection->Dead()) continue;
    GuestMessage request;
    request.op = op;
    const absl::Status begun = member.connection->channel().Begin(request);
    member.asked = begun.ok();
    result.Update(begun);
  }
  for (Member& member : members_) {
    if (!member.asked) continue;
    GuestMessage reply;
    const absl::Status finished = member.connection->channel().Finish(reply);
    result.Update(finished);
    if (!finished.ok() || op != GuestOp::kGateStats) continue;
    member.stats.held_packets = reply.values[0];
    member.stats.held_bytes = reply.values[1];
    member.stats.released_packets = reply.values[2];
    member.stats.dropped_packets = reply.values[3];
  }
  return result;
}

OutputStats SyntheticOutput::stats() {
  // A member that does not answer keeps its last numbers; Health() says what is wrong with it.
  CallAll(GuestOp::kGateStats, true).IgnoreError();
  OutputStats sum;
  for (const Member& member : members_) {
    sum.held_packets += member.stats.held_packets;
    sum.held_bytes += member.stats.held_bytes;
    sum.released_packets += member.stats.released_packets;
    sum.dropped_packets += member.stats.dropped_packets;
  }
  return sum;
}

absl::Status SyntheticOutput::Health() {
  for (const Member& member : members_) {
    HAVEN_RETURN_IF_ERROR(member.connection->CheckAlive());
    const uint64_t lost_ns = member.connection->status().gate_lost_ns;
    if (lost_ns == 0) continue;
    const int64_t since_ns = SystemClock::Get().NowNs() - static_cast<int64_t>(lost_ns);
    return absl::FailedPreconditionError(absl::StrCat(
        "synthetic guest ", member.connection->spec().name,
        ": its output buffer was removed by somebody else ", since_ns / kNsPerMs,
        " ms ago; what it held, and what came until it was held again, has left uncommitted"));
  }
  return absl::OkStatus();
}

}  // namespace haven
