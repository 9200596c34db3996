// SPDX-License-Identifier: Apache-2.0
#include "engine/control/beat_lane.h"

#include <array>
#include <span>

#include "engine/base/check.h"

namespace haven {

namespace {

HeartbeatOptions PrimaryOptions(const SessionMemory& memory, LinkNumber number,
                                uint64_t last_counter) {
  HAVEN_CHECK_GE(memory.scratch.bytes.size(), PrimaryBeatLane::kScratchBytes);
  HeartbeatOptions options;
  options.session = memory.session;
  options.link_number = number;
  options.journal = memory.journal;
  options.scratch_region = memory.scratch.id;
  options.scratch = memory.scratch.bytes.subspan(EpochSender::kScratchBytes, kHeartbeatBytes);
  options.scratch_offset = EpochSender::kScratchBytes;
  options.last_counter = last_counter;
  return options;
}

}  // namespace

PrimaryBeatLane::PrimaryBeatLane(const SessionMemory& memory, LinkNumber number,
                                 uint64_t last_counter, Link& link)
    : session_(memory.session), writer_(PrimaryOptions(memory, number, last_counter), link) {}

void PrimaryBeatLane::Beat(uint32_t state) { writer_.Beat(static_cast<PrimaryState>(state)); }

BackupBeatLane::BackupBeatLane(SessionId session, LinkNumber number, uint64_t last_counter,
                               const LocalRegion& scratch, const RemoteRegion& peer_block,
                               Link& link)
    : session_(session),
      link_(link),
      writer_(session, scratch, PeerBlockWriter::kScratchBytes, peer_block, last_counter) {
  writer_.BeginLink(number, &link);
}

void BackupBeatLane::Beat(uint32_t state) {
  // One request is under way per buffer at most; the end of the link may add a few more.
  std::array<Completion, 8> completions;
  const size_t count = link_.Poll(completions);
  for (const Completion& completion : std::span(completions).first(count)) {
    absl::Status ignored;
    writer_.OnCompletion(completion, &ignored);
  }
  writer_.Beat(static_cast<BackupState>(state)).IgnoreError();
}

}  // namespace haven
