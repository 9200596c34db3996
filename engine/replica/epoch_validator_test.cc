// SPDX-License-Identifier: Apache-2.0
//
// Names, CRCs, the order of calls and the commit record; epoch_content_test.cc has the frames.
#include "engine/replica/epoch_validator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/replica/epoch_validator_testing.h"

namespace haven {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_F(EpochValidatorTest, AcceptsACheckpointOverSeveralChunks) {
  Begin(EpochKind::kCheckpoint);
  ASSERT_TRUE(Add([](ChunkWriter& w) {
                Raw(w, 0, 0, 2);
                Zero(w, 0, 2, 38);
                Raw(w, 0, 41, 1);
              }).ok());
  ASSERT_TRUE(Add([](ChunkWriter& w) {
                Raw(w, 0, 99, 1);
                Zero(w, 1, 0, 1000);
                State(w, 0, 0, 5, "abc");
              }).ok());
  ASSERT_TRUE(Add([](ChunkWriter& w) {
                State(w, 0, 3, 5, "de");
                State(w, 1, 0, 1, "f");
              }).ok());
  const absl::Status finished = validator_.Finish(Record());
  EXPECT_TRUE(finished.ok()) << finished;
  EXPECT_EQ(validator_.totals(), sent_);
  EXPECT_EQ(validator_.totals().page_count, 1042u);
  EXPECT_EQ(validator_.state_bytes(0), 5u);
  EXPECT_EQ(validator_.state_bytes(1), 1u);
}

TEST_F(EpochValidatorTest, AcceptsSyncEpochsAlsoEmptyOnes) {
  Begin(EpochKind::kSync);
  ASSERT_TRUE(Add([](ChunkWriter& w) { Raw(w, 1, 0, 3); }).ok());
  EXPECT_TRUE(validator_.Finish(Record()).ok());
  Begin(EpochKind::kSync);
  EXPECT_TRUE(validator_.Finish(Record()).ok());
}

TEST_F(EpochValidatorTest, AChunkOfAnotherNameIsRefused) {
  const std::vector<std::pair<std::function<void(ChunkIdentity&)>, std::string>> cases = {
      {[](ChunkIdentity& i) { i.session = 8; }, "session is 8, must be equal to 7"},
      {[](ChunkIdentity& i) { i.link = 2; }, "link is 2, must be equal to 3"},
      {[](ChunkIdentity& i) { i.epoch = 8; }, "epoch is 8, must be equal to 9"},
      {[](ChunkIdentity& i) { i.kind = EpochKind::kSync; }, "kind is 1, must be equal to 2"},
      {[](ChunkIdentity& i) { i.index = 1; }, "index is 1, must be equal to 0"},
  };
  for (const auto& [damage, error] : cases) {
    Begin(EpochKind::kCheckpoint);
    ChunkIdentity identity = Identity(0);
    damage(identity);
    std::vector<std::byte> slot(kMinSlotBytes);
    ChunkWriter writer(slot);
    BothStates(writer);
    writer.Finish(identity);
    const absl::Status status = validator_.AddChunk(slot, 0);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("epoch 9 chunk 0: chunk header: " + error));
  }
}

TEST_F(EpochValidatorTest, ChunksComeInOrder) {
  Begin(EpochKind::kCheckpoint);
  const absl::Status status = validator_.AddChunk(Chunk(BothStates), 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("index given is 1, must be the next in order, 0"));
}

TEST_F(EpochValidatorTest, EveryFlippedBitOfAChunkIsSeen) {
  Begin(EpochKind::kCheckpoint);
  const std::vector<std::byte> good = Chunk([](ChunkWriter& w) {
    Zero(w, 0, 0, 3);
    BothStates(w);
  });
  const size_t used = kChunkHeaderBytes + sent_.payload_bytes;
  for (size_t bit = 0; bit < used * 8; ++bit) {
    std::vector<std::byte> slot = good;
    slot[bit / 8] ^= std::byte{1} << (bit % 8);
    validator_.Begin(kSession, kLink, kEpoch, kind_);
    EXPECT_EQ(validator_.AddChunk(slot, 0).code(), absl::StatusCode::kDataLoss) << "bit " << bit;
  }
  validator_.Begin(kSession, kLink, kEpoch, kind_);
  EXPECT_TRUE(validator_.AddChunk(good, 0).ok());
}

TEST_F(EpochValidatorTest, AnUntouchedSlotIsNotFound) {
  Begin(EpochKind::kSync);
  const std::vector<std::byte> untouched(kMinSlotBytes);
  EXPECT_EQ(validator_.AddChunk(untouched, 0).code(), absl::StatusCode::kNotFound);
}

TEST_F(EpochValidatorTest, AFrameErrorOfTheCursorIsPassedOnWithItsPlace) {
  Begin(EpochKind::kSync);
  std::vector<std::byte> slot = Chunk([](ChunkWriter& w) { Zero(w, 0, 0, 3); });
  slot[kChunkHeaderBytes] = std::byte{9};
  RepairChunk(slot);
  EXPECT_THAT(std::string(validator_.AddChunk(slot, 0).message()),
              HasSubstr("epoch 9 chunk 0: frame 0 at payload offset 0: type is 9,"));
}

TEST_F(EpochValidatorTest, CodedPagesNeedSomebodyWhoChecksThem) {
  Begin(EpochKind::kSync);
  EXPECT_THAT(Refusal([](ChunkWriter& w) { ASSERT_TRUE(w.AppendCoded(0, 3, 1, BytesOf("x"))); }),
              HasSubstr("type is 4, must be 1, 2 or 3: no coded pages were agreed on"));
}

TEST_F(EpochValidatorTest, TheFrameCountOfTheHeaderIsTheTruth) {
  Begin(EpochKind::kSync);
  std::vector<std::byte> slot = Chunk([](ChunkWriter& w) {
    Zero(w, 0, 0, 3);
    Zero(w, 0, 4, 3);
  });
  Poke(slot, 36, 4, 1);
  RepairChunk(slot);
  EXPECT_THAT(std::string(validator_.AddChunk(slot, 0).message()),
              HasSubstr("frame_count is 1, must be the frames that are there, 2"));
}

TEST_F(EpochValidatorTest, TheRecordSpeaksOfExactlyTheseChunks) {
  const std::vector<std::pair<std::function<void(CommitRecord&)>, std::string>> cases = {
      {[](CommitRecord& r) { r.session = 8; }, "session is 8,"},
      {[](CommitRecord& r) { r.link = 8; }, "link is 8,"},
      {[](CommitRecord& r) { r.epoch = 8; }, "epoch is 8,"},
      {[](CommitRecord& r) { r.kind = EpochKind::kSync; }, "kind is 1,"},
      {[](CommitRecord& r) { r.domain_count = 1; }, "domain_count is 1,"},
      {[](CommitRecord& r) { r.totals.chunk_count = 2; }, "chunk_count is 2,"},
      {[](CommitRecord& r) { r.totals.payload_bytes += 16; }, "payload_bytes is 96,"},
      {[](CommitRecord& r) { r.totals.frame_count = 4; }, "frame_count is 4,"},
      {[](CommitRecord& r) { r.totals.page_count = 4; }, "page_count is 4,"},
      {[](CommitRecord& r) { r.totals.chunks_crc = 5; }, "chunks_crc is 5,"},
  };
  for (const auto& [damage, error] : cases) {
    Begin(EpochKind::kCheckpoint);
    ASSERT_TRUE(Add([](ChunkWriter& w) {
                  Zero(w, 0, 0, 3);
                  BothStates(w);
                }).ok());
    CommitRecord record = Record();
    damage(record);
    const absl::Status status = validator_.Finish(record);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << error;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("epoch 9: commit record: "), HasSubstr(error)));
  }
}

TEST_F(EpochValidatorTest, NothingIsAcceptedOutsideAnOpenEpoch) {
  const auto closed = absl::StatusCode::kFailedPrecondition;
  const std::vector<std::byte> slot = Chunk([](ChunkWriter& w) { Zero(w, 0, 0, 1); });
  EXPECT_EQ(validator_.AddChunk(slot, 0).code(), closed);
  EXPECT_EQ(validator_.Finish(Record()).code(), closed);

  Begin(EpochKind::kSync);
  ASSERT_TRUE(validator_.Finish(Record()).ok());
  EXPECT_EQ(validator_.Finish(Record()).code(), closed);
  EXPECT_EQ(validator_.AddChunk(slot, 0).code(), closed);
}

TEST_F(EpochValidatorTest, AnEpochThatFailedStaysFailed) {
  const auto closed = absl::StatusCode::kFailedPrecondition;
  Begin(EpochKind::kSync);
  std::vector<std::byte> slot = Chunk([](ChunkWriter& w) { Zero(w, 0, 0, 1); });
  slot[kChunkHeaderBytes + 5] ^= std::byte{1};
  EXPECT_EQ(validator_.AddChunk(slot, 0).code(), absl::StatusCode::kDataLoss);
  slot[kChunkHeaderBytes + 5] ^= std::byte{1};
  EXPECT_EQ(validator_.AddChunk(slot, 0).code(), closed);
  EXPECT_EQ(validator_.Finish(Record()).code(), closed);

  Begin(EpochKind::kSync);
  CommitRecord record = Record();
  record.totals.chunks_crc = 1;
  EXPECT_EQ(validator_.Finish(record).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(validator_.Finish(Record()).code(), closed);
}

TEST(EpochValidatorDeathTest, ACallersBugsEndTheProcess) {
  const GuestMemory guest = MakeGuest(10);
  const EpochTarget target = {.memory = &guest, .max_state_bytes = 8};
  EXPECT_DEATH(EpochValidator(std::span<const EpochTarget>{}), "targets.size");
  EXPECT_DEATH(EpochValidator(std::vector<EpochTarget>(17, target)), "targets.size");
  EXPECT_DEATH(EpochValidator(std::vector<EpochTarget>(1)), "memory");
  EpochValidator validator(std::span(&target, 1));
  std::vector<std::byte> buffer(8);
  const std::span<std::byte> small[] = {std::span(buffer).first(7)};
  const std::span<std::byte> many[] = {buffer, buffer};
  EXPECT_DEATH(validator.Begin(1, 1, 1, EpochKind::kCheckpoint, small), "max_state_bytes");
  EXPECT_DEATH(validator.Begin(1, 1, 1, EpochKind::kCheckpoint, many), "states.size");
}

}  // namespace
}  // namespace haven
