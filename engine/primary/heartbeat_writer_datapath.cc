// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "engine/base/check.h"
#include "engine/primary/heartbeat_writer.h"
#include "engine/replica/control_block.h"

namespace haven {

HeartbeatWriter::HeartbeatWriter(const HeartbeatOptions& options, Link& link)
    : options_(options),
      link_(link),
      counter_(options.last_counter),
      delivered_(options.last_counter) {
  HAVEN_CHECK_NE(options.session, kNoSession);
  HAVEN_CHECK_NE(options.link_number, kNoLink);
  HAVEN_CHECK_GE(options.scratch.size(), kHeartbeatBytes);
  HAVEN_CHECK_GE(options.journal.bytes, kControlBlockBytes);
}

BeatResult HeartbeatWriter::Beat(PrimaryState state) {
  PollCompletions();
  if (failed_) return BeatResult::kFailed;
  // The fabric may still be reading the scratch.
  if (delivered_ != counter_) return BeatResult::kBusy;

  EncodeHeartbeat(HeartbeatSender::kPrimary,
                  {.session = options_.session,
                   .link = options_.link_number,
                   .state = static_cast<uint32_t>(state),
                   .counter = counter_ + 1},
                  options_.scratch.first<kHeartbeatBytes>());
  WriteRequest request;
  request.id = counter_ + 1;
  request.local_region = options_.scratch_region;
  request.local_offset = options_.scratch_offset;
  request.remote = options_.journal;
  request.remote_offset = kPrimaryHeartbeatOffset;
  request.bytes = kHeartbeatBytes;
  request.signaled = true;
  const absl::Status status = link_.PostWrites(std::span(&request, 1));
  if (absl::IsResourceExhausted(status)) return BeatResult::kBusy;
  if (!status.ok()) {
    failed_ = true;
    failure_ = CompletionResult::kOther;
    return BeatResult::kFailed;
  }
  counter_ += 1;
  return BeatResult::kPosted;
}

void HeartbeatWriter::PollCompletions() {
  // One request is under way at most; a flush of receives may add a few completions.
  std::array<Completion, 8> completions;
  const size_t count = link_.Poll(completions);
  for (const Completion& completion : std::span(completions).first(count)) {
    if (completion.result != CompletionResult::kOk) {
      if (!failed_) failure_ = completion.result;
      failed_ = true;
    } else if (completion.kind == CompletionKind::kWrite) {
      delivered_ = completion.id;
    }
  }
}

}  // namespace haven
