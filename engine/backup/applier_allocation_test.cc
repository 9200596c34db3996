// SPDX-License-Identifier: Apache-2.0
//
// A good epoch is received, committed, applied and released without an allocation.
#include <array>
#include <memory>
#include <vector>

#include "engine/backup/applier.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/base/allocations_testing.h"
#include "engine/codec/codec_testing.h"
#include "engine/replica/features.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// The parameter is the number of worker threads.
class ApplierAllocationTest : public ::testing::TestWithParam<unsigned> {};

// Two pages, compressed: one of equal bytes, and one that equals page 150.
TestRun CodedFrame(uint32_t first) {
  const std::vector<std::byte> plain =
      MakeCodedBody(6, {MakePage(PageKind::kRaw, first), SamePage(first + 1, 0, 150)},
                    std::vector<std::byte>(kPageBytes, std::byte{5}));
  std::vector<std::byte> body(plain.begin(), plain.begin() + kCodedHeaderBytes);
  body[0] = static_cast<std::byte>(Compression::kZstd);
  std::vector<std::byte> packed(1000);
  packed.resize(Compressor().Compress(Compression::kZstd,
                                      std::span(plain).subspan(kCodedHeaderBytes), packed));
  body.insert(body.end(), packed.begin(), packed.end());
  return {.domain = 0, .first = first, .pages = 2, .coded = body};
}

TEST_P(ApplierAllocationTest, AGoodEpochAllocatesNothing) {
  TestBackup backup(
      {.slot_bytes = kMinSlotBytes, .ring_slots = 6, .pool_slots = 8, .extent_slots = 2},
      {{.pages = 400, .max_state_bytes = 100000}}, /*session=*/1, kNoEpoch, kCodecFeatures);
  absl::StatusOr<std::unique_ptr<Applier>> applier = Applier::Create({.region = backup.region,
                                                                      .geometry = backup.geometry,
                                                                      .replicas = backup.domains(),
                                                                      .threads = GetParam(),
                                                                      .coded_pages = true});
  ASSERT_TRUE(applier.ok());
  backup.reader.BeginLink(1);
  for (Epoch epoch = 1; epoch <= 5; ++epoch) {
    TestEpoch made{.epoch = epoch, .base = epoch - 1};
    made.runs = {FilledRun(0, 3, 100, 1), ZeroRun(0, 200, 100), CodedFrame(301)};
    made.states = {std::vector<std::byte>(70000)};
    const uint32_t chunks = backup.journal.Encode(made, 1, 1);
    ASSERT_GT(chunks, backup.geometry.ring_slots);
    std::array<uint32_t, 2> extents{};

    const size_t before_grant = AllocationCount();
    ASSERT_TRUE(backup.ledger.GrantExtents(epoch, extents).ok());
    EXPECT_EQ(AllocationCount(), before_grant);

    const CommitRecord record = backup.journal.Place(backup.ledger.next(), 6, extents);
    backup.journal.WriteChunks(record, 0, chunks);
    backup.journal.WriteRecord(record);

    const size_t before = AllocationCount();
    const bool announced = backup.reader.OnImmediate(TestJournal::ChunksImmediate(chunks)).ok();
    const auto committed = backup.reader.OnImmediate(CommitImmediate(epoch));
    ASSERT_TRUE(announced && committed.ok());
    (*applier)->Submit(**committed);
    const bool applied = (*applier)->Drain().ok();
    const std::optional<AppliedEpoch> finished = (*applier)->PopFinished();
    backup.ledger.Release(finished->epoch);
    const size_t after = AllocationCount();

    EXPECT_TRUE(applied);
    EXPECT_EQ(after, before) << "epoch " << epoch;
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ApplierAllocationTest, ::testing::Values(0u, 2u));

}  // namespace
}  // namespace haven
