// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/chunk_seal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/crc32c.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kSlotBytes = 4096;
constexpr uint32_t kPayloadBytes = 48;

// The key 00 01 .. 1f and the payload 00 01 .. 2f, sealed by an independent program.
constexpr char kSealedHeader[] =
    "4856434b"                  // magic "HVCK"
    "0100"                      // version
    "0100"                      // flags: sealed
    "8877665544332211"          // session
    "03000000"                  // link
    "00000000"                  // index
    "0900000000000000"          // epoch
    "30000000"                  // payload bytes
    "02000000"                  // frame count
    "ad80b1d2"                  // tag, bytes 0 .. 3
    "0200"                      // kind: checkpoint
    "09d50e4e6219e2c5d80f62e7"  // tag, bytes 4 .. 15
    "0000"                      // reserved
    "0dad797f";                 // CRC32C
constexpr char kSealedPayload[] =
    "2e5b44309e1a00ce5659d6db6e082614b6f73c984449dd811f5b92ebb42cdbc1e926bf5588bcdc16fe397ca42f17c1"
    "a7";
// Of 256 bytes 00 01 .. ff and 96 zero bytes as the record of epoch 9.
constexpr char kRecordTag[] = "b649e763c8972046e360a98d8e7433c3";

SealKey Key(uint8_t first = 0) {
  SealKey key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::byte>(first + i);
  return key;
}

std::vector<std::byte> PlainPayload() {
  std::vector<std::byte> payload(kPayloadBytes);
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i);
  return payload;
}

// A slot with a plain chunk.
std::vector<std::byte> PlainSlot(Epoch epoch = 9, uint32_t index = 0) {
  std::vector<std::byte> slot(kSlotBytes);
  const std::vector<std::byte> payload = PlainPayload();
  std::ranges::copy(payload, slot.begin() + kChunkHeaderBytes);
  EncodeChunkHeader({.identity = {.session = 0x1122334455667788,
                                  .link = 3,
                                  .epoch = epoch,
                                  .kind = EpochKind::kCheckpoint,
                                  .index = index},
                     .payload_bytes = kPayloadBytes,
                     .frame_count = 2,
                     .payload_crc = Crc32c(payload)},
                    std::span(slot).first<kChunkHeaderBytes>());
  return slot;
}

// OpenSSL's allocations, which have their own functions.
size_t g_allocations = 0;
void* CountedMalloc(size_t bytes, const char*, int) {
  ++g_allocations;
  return std::malloc(bytes);
}
void* CountedRealloc(void* memory, size_t bytes, const char*, int) {
  ++g_allocations;
  return std::realloc(memory, bytes);
}
void CountedFree(void* memory, const char*, int) { std::free(memory); }
const int g_counted = CRYPTO_set_mem_functions(CountedMalloc, CountedRealloc, CountedFree);

class ChunkSealTest : public ::testing::Test {
 protected:
  std::vector<std::byte> Sealed(Epoch epoch = 9, uint32_t index = 0) {
    std::vector<std::byte> slot = PlainSlot(epoch, index);
    crc_ = sealer_->Seal(slot);
    return slot;
  }

  absl::StatusOr<std::vector<std::byte>> Open(ChunkOpener& opener,
                                              std::span<const std::byte> slot) {
    ChunkHeader header;
    uint32_t crc = 0;
    const absl::Status decoded = DecodeChunkHeader(slot, &header, &crc);
    if (!decoded.ok()) return decoded;
    const absl::StatusOr<std::span<const std::byte>> plain =
        opener.Open(header, ChunkPayload(slot, header));
    if (!plain.ok()) return plain.status();
    return std::vector<std::byte>(plain->begin(), plain->end());
  }
  absl::StatusOr<std::vector<std::byte>> Open(std::span<const std::byte> slot) {
    return Open(*opener_, slot);
  }

  const std::unique_ptr<ChunkSealer> sealer_ = *ChunkSealer::Create(Key());
  const std::unique_ptr<ChunkOpener> opener_ = *ChunkOpener::Create(Key(), kSlotBytes);
  uint32_t crc_ = 0;
};

TEST_F(ChunkSealTest, SealsToTheDocumentedBytes) {
  const std::vector<std::byte> slot = Sealed();
  const std::span<const std::byte> chunk = slot;
  EXPECT_EQ(ToHex(chunk.first(kChunkHeaderBytes)), kSealedHeader);
  EXPECT_EQ(ToHex(chunk.subspan(kChunkHeaderBytes, kPayloadBytes)), kSealedPayload);
  EXPECT_EQ(crc_, LoadLe32(chunk.data() + kChunkHeaderBytes - 4));
}

TEST_F(ChunkSealTest, OpensTheDocumentedBytes) {
  std::vector<std::byte> slot = FromHex(std::string(kSealedHeader) + kSealedPayload);
  slot.resize(kSlotBytes);
  const absl::StatusOr<std::vector<std::byte>> plain = Open(slot);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(*plain, PlainPayload());
}

TEST_F(ChunkSealTest, ARecordHasTheDocumentedTag) {
  std::vector<std::byte> record(352);
  for (size_t i = 0; i < 256; ++i) record[i] = static_cast<std::byte>(i);
  const SealTag tag = sealer_->SealRecord(9, record);
  EXPECT_EQ(ToHex(tag), kRecordTag);
  EXPECT_TRUE(opener_->CheckRecord(9, record, tag).ok());
}

TEST_F(ChunkSealTest, ARecordThatWasChangedIsDataLoss) {
  std::vector<std::byte> record(352, std::byte{7});
  const SealTag tag = sealer_->SealRecord(9, record);
  EXPECT_TRUE(absl::IsDataLoss(opener_->CheckRecord(10, record, tag)));
  for (size_t i = 0; i < record.size(); i += 50) {
    record[i] ^= std::byte{1};
    EXPECT_TRUE(absl::IsDataLoss(opener_->CheckRecord(9, record, tag))) << i;
    record[i] ^= std::byte{1};
  }
  SealTag other = tag;
  other[15] ^= std::byte{0x80};
  EXPECT_TRUE(absl::IsDataLoss(opener_->CheckRecord(9, record, other)));
  EXPECT_TRUE(opener_->CheckRecord(9, record, tag).ok());
}

TEST_F(ChunkSealTest, EveryBitOfAChunkIsBound) {
  const std::vector<std::byte> slot = Sealed();
  for (size_t bit = 0; bit < (kChunkHeaderBytes - 4 + kPayloadBytes) * 8; ++bit) {
    std::vector<std::byte> changed = slot;
    const size_t byte = bit / 8 < kChunkHeaderBytes - 4 ? bit / 8 : bit / 8 + 4;
    changed[byte] ^= static_cast<std::byte>(1 << bit % 8);
    RepairSection(std::span(changed).first(kChunkHeaderBytes));
    EXPECT_FALSE(Open(changed).ok()) << "bit " << bit;
  }
  EXPECT_TRUE(Open(slot).ok());
}

TEST_F(ChunkSealTest, AChunkInThePlaceOfAnotherIsDataLoss) {
  std::vector<std::byte> slot = Sealed(9, 1);
  ChunkHeader header;
  uint32_t crc = 0;
  ASSERT_TRUE(DecodeChunkHeader(slot, &header, &crc).ok());
  header.identity.index = 2;
  EncodeChunkHeader(header, std::span(slot).first<kChunkHeaderBytes>());
  const absl::Status status = Open(slot).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("epoch 9"));
}

TEST_F(ChunkSealTest, AnotherKeyDoesNotOpen) {
  const std::unique_ptr<ChunkOpener> other = *ChunkOpener::Create(Key(1), kSlotBytes);
  EXPECT_TRUE(absl::IsDataLoss(Open(*other, Sealed()).status()));
}

TEST_F(ChunkSealTest, APlainChunkIsNotOpened) {
  const absl::Status status = Open(PlainSlot()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("flags"));
}

TEST_F(ChunkSealTest, EqualPayloadsLookDifferentInEachChunkAndEpoch) {
  std::set<std::string> seen;
  for (Epoch epoch = 1; epoch < 5; ++epoch) {
    for (uint32_t index = 0; index < 4; ++index) {
      const std::vector<std::byte> slot = Sealed(epoch, index);
      seen.insert(ToHex(std::span(slot).subspan(kChunkHeaderBytes, 16)));
      EXPECT_TRUE(Open(slot).ok());
    }
  }
  EXPECT_EQ(seen.size(), 16u);
}

TEST_F(ChunkSealTest, SealingAndOpeningAllocateNothing) {
  ASSERT_EQ(g_counted, 1);
  EXPECT_GT(g_allocations, 0u);
  std::vector<std::byte> slot = PlainSlot();
  const size_t before = g_allocations;
  sealer_->Seal(slot);
  const SealTag tag = sealer_->SealRecord(9, slot);
  const bool sound = opener_->CheckRecord(9, slot, tag).ok();
  ChunkHeader header;
  uint32_t crc = 0;
  const bool decoded = DecodeChunkHeader(slot, &header, &crc).ok();
  const bool opened = opener_->Open(header, ChunkPayload(slot, header)).ok();
  EXPECT_EQ(g_allocations, before);
  EXPECT_TRUE(sound && decoded && opened);
}

TEST_F(ChunkSealTest, FlagsThatNobodyKnowsAreRefused) {
  std::vector<std::byte> slot = Sealed();
  slot[6] = std::byte{2};
  RepairSection(std::span(slot).first(kChunkHeaderBytes));
  EXPECT_TRUE(absl::IsInvalidArgument(Open(slot).status()));
}

TEST(ChunkSealDeathTest, NoChunkIsSealedTwice) {
  const std::unique_ptr<ChunkSealer> sealer = *ChunkSealer::Create(Key());
  std::vector<std::byte> slot = PlainSlot();
  sealer->Seal(slot);
  EXPECT_DEATH(sealer->Seal(slot), "epoch=9");
}

}  // namespace
}  // namespace haven
