// SPDX-License-Identifier: Apache-2.0
//
// The epoch path does not allocate: encoders, and decoders that succeed.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "engine/base/allocations_testing.h"
#include "engine/replica/chunk_writer.h"
#include "engine/replica/control_block.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/peer_block.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

constexpr JournalGeometry kGeometry = {
    .slot_bytes = kMinSlotBytes, .ring_slots = 4, .pool_slots = 2, .extent_slots = 1};

// One whole epoch, from the writer over the record and the heartbeats to the acknowledgement.
bool Replicate(std::span<std::byte> slot, EpochValidator& validator,
               std::span<const std::span<std::byte>> states) {
  ChunkWriter writer(slot);
  const ChunkIdentity identity = {
      .session = 1, .link = 1, .epoch = 2, .kind = EpochKind::kCheckpoint, .index = 0};
  const std::span<std::byte> body = writer.AppendRawRun(0, 1, 2);
  if (body.empty()) return false;
  body[0] = std::byte{1};
  bool good = writer.AppendZeroRun(0, 3, 90);
  good &= writer.AppendState(0, 0, 5, BytesOf("state"));
  EpochTotals totals;
  totals.Add(writer.Finish(identity));
  const CommitRecord record = {.session = 1,
                               .link = 1,
                               .kind = EpochKind::kCheckpoint,
                               .epoch = 2,
                               .base_epoch = 1,
                               .domain_count = 1,
                               .placement = {.first_position = 5, .ring_slots_used = 1},
                               .totals = totals};
  std::array<std::byte, kCommitRecordBytes> record_bytes;
  EncodeCommitRecord(record, record_bytes);

  CommitRecord received;
  good &= DecodeCommitRecord(record_bytes, kGeometry, &received).ok();
  validator.Begin(1, 1, 2, EpochKind::kCheckpoint, states);
  good &= validator.AddChunk(slot, 0).ok();
  good &= validator.Finish(received).ok();

  std::array<std::byte, kAckBytes> ack_bytes;
  EncodeAck({.session = 1, .link = 1, .committed_epoch = 2}, ack_bytes);
  Ack ack;
  good &= DecodeAck(ack_bytes, &ack).ok();
  std::array<std::byte, kHeartbeatBytes> heartbeat_bytes;
  EncodeHeartbeat(HeartbeatSender::kPrimary, {.session = 1, .link = 1, .state = 1, .counter = 1},
                  heartbeat_bytes);
  Heartbeat heartbeat;
  good &= DecodeHeartbeat(HeartbeatSender::kPrimary, heartbeat_bytes, &heartbeat).ok();
  return good;
}

TEST(NoAllocationTest, AGoodEpochAllocatesNothing) {
  std::vector<std::byte> slot(kMinSlotBytes);
  std::vector<std::byte> state(64);
  const std::span<std::byte> states[] = {state};
  const GuestMemory guest = MakeGuest(100);
  const EpochTarget target = {.memory = &guest, .max_state_bytes = 64};
  EpochValidator validator(std::span(&target, 1));
  const size_t before = AllocationCount();
  const bool good = Replicate(slot, validator, states);
  const size_t during = AllocationCount() - before;
  EXPECT_TRUE(good);
  EXPECT_EQ(during, 0u);
}

TEST(NoAllocationTest, TheCounterCounts) {
  const size_t before = AllocationCount();
  const std::vector<std::byte> memory(100);
  EXPECT_EQ(memory.size(), 100u);
  EXPECT_EQ(AllocationCount(), before + 1);
}

}  // namespace
}  // namespace haven
