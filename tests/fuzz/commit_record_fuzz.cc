// SPDX-License-Identifier: Apache-2.0
//
// Input: the four numbers of a journal geometry (16 bytes), then a commit record. Its CRC is
// repaired.
#include <algorithm>
#include <array>
#include <cstdint>
#include <set>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

constexpr size_t kGeometryBytes = 16;
// A placement can have that many chunks and is still walked in no time.
constexpr uint32_t kMaxWalkedChunks = 4096;

// No two chunks of an accepted epoch lie in one slot, and none outside the journal.
void CheckPlacement(const CommitRecord& record, const JournalGeometry& geometry) {
  const uint32_t chunks = record.totals.chunk_count;
  HAVEN_CHECK_LE(chunks, record.placement.capacity(geometry));
  std::set<uint32_t> slots;
  for (uint32_t i = 0; i < std::min(chunks, kMaxWalkedChunks); ++i) {
    const uint32_t slot = record.placement.ChunkSlot(geometry, i);
    HAVEN_CHECK_LT(slot, geometry.slots());
    HAVEN_CHECK_LE(geometry.SlotOffset(slot) + geometry.slot_bytes, geometry.total_bytes());
    HAVEN_CHECK(slots.insert(slot).second) << "slot=" << slot;
  }
}

void RunOne(std::span<const std::byte> input) {
  ByteReader reader(input);
  JournalGeometry geometry;
  geometry.slot_bytes = reader.GetU32();
  geometry.ring_slots = reader.GetU32();
  geometry.pool_slots = reader.GetU32();
  geometry.extent_slots = reader.GetU32();
  if (!reader.ok() || !geometry.Validate().ok()) return;

  CommitRecord record;
  if (reader.remaining() < kCommitRecordBytes) {
    HAVEN_CHECK(!DecodeCommitRecord(input.subspan(kGeometryBytes), geometry, &record).ok());
    return;
  }
  std::array<std::byte, kCommitRecordBytes> bytes;
  std::ranges::copy(reader.GetBytes(kCommitRecordBytes), bytes.begin());
  RepairSection(bytes);
  if (!DecodeCommitRecord(bytes, geometry, &record).ok()) return;
  std::array<std::byte, kCommitRecordBytes> again;
  EncodeCommitRecord(record, again);
  HAVEN_CHECK(again == bytes) << "epoch=" << record.epoch;
  CheckPlacement(record, geometry);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
