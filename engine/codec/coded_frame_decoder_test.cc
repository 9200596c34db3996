// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/coded_frame_decoder.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "engine/base/byte_order.h"
#include "engine/codec/codec_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using Bytes = std::vector<std::byte>;

Bytes Of(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

Bytes Body(const Bytes& directory, size_t literals, unsigned shift = 6, unsigned method = 0) {
  Bytes body(kCodedHeaderBytes + literals + directory.size(), std::byte{0xab});
  ByteWriter header(body);
  header.PutU8(static_cast<uint8_t>(method));
  header.PutU8(static_cast<uint8_t>(shift));
  header.PutU16(0);
  header.PutU32(static_cast<uint32_t>(literals));
  header.PutU32(static_cast<uint32_t>(directory.size()));
  std::ranges::copy(directory, body.end() - static_cast<long>(directory.size()));
  return body;
}

class DecoderTest : public ::testing::Test {
 protected:
  // Decodes all and returns the error, empty if there is none.
  std::string Decode(const Bytes& body, uint32_t count = 1, uint32_t first = 0) {
    decoder_.Open({first, count, body});
    records_ = 0;
    while (decoder_.Next(&page_)) ++records_;
    return std::string(decoder_.status().message());
  }
  // Expects an error that names the field.
  void Refused(const char* field, const Bytes& body, uint32_t count = 1, uint32_t first = 0) {
    const std::string error = Decode(body, count, first);
    EXPECT_NE(error.find(field), std::string::npos) << "expected '" << field << "': " << error;
  }

  CodedFrameDecoder decoder_;
  CodedPage page_;
  uint32_t records_ = 0;
};

TEST_F(DecoderTest, AcceptsEachKind) {
  EXPECT_EQ(Decode(Body(Of({0}), kPageBytes)), "");
  EXPECT_EQ(page_.kind, PageKind::kRaw);
  EXPECT_EQ(page_.literals.size(), kPageBytes);
  EXPECT_EQ(Decode(Body(Of({1}), 0), 1, 77), "");
  EXPECT_EQ(page_.kind, PageKind::kZero);
  EXPECT_EQ(page_.gfn, 77u);
  // Domain 1, frame 300.
  EXPECT_EQ(Decode(Body(Of({2, 2, 0xac, 2}), 0)), "");
  EXPECT_EQ(page_.same_domain, 1);
  EXPECT_EQ(page_.same_gfn, 300u);
  // A run of three bytes at 5.
  EXPECT_EQ(Decode(Body(Of({3, kPatchRuns, 1, 5, 2}), 3)), "");
  EXPECT_EQ(page_.run_count, 1u);
  EXPECT_EQ(page_.runs[0].at, 5);
  EXPECT_EQ(page_.runs[0].bytes, 3);
  // Copy of blocks 0 and 1, zero block 2, changed block 3, of 256 bytes.
  EXPECT_EQ(
      Decode(Body(Of({3, kPatchCopies | kPatchZeros | kPatchBlocks, 1, 0, 2, 14, 0, 9, 4, 0, 8, 0}),
                  256, 8)),
      "");
  EXPECT_EQ(page_.copy_count, 1u);
  EXPECT_EQ(page_.copies[0].from, 14);
  EXPECT_EQ(page_.zeros, 4u);
  EXPECT_EQ(page_.blocks, 8u);
}

TEST_F(DecoderTest, SameInFrameNamesAnEarlierRawRecord) {
  EXPECT_EQ(Decode(Body(Of({0, 2, 1}), kPageBytes), 2), "");
  EXPECT_TRUE(page_.same_in_frame);
  EXPECT_EQ(page_.literals.size(), kPageBytes);
  Refused("same-as index", Body(Of({0, 2, 3}), kPageBytes), 2);  // Itself.
  Refused("same-as index", Body(Of({1, 2, 1}), 0), 2);           // A zero record.
  Refused("same-as index", Body(Of({2, 1}), 0));                 // None before.
}

TEST_F(DecoderTest, GapsAndFrameNumbers) {
  EXPECT_EQ(Decode(Body(Of({1, 1 | 62 << 2}), 0), 2, 10), "");
  EXPECT_EQ(page_.gfn, 73u);
  EXPECT_EQ(Decode(Body(Of({1, 1 | 63 << 2, 5}), 0), 2, 10), "");
  EXPECT_EQ(page_.gfn, 79u);
  Refused("gap", Body(Of({1 | 1 << 2}), 0));
  Refused("frame number", Body(Of({1, 1}), 0), 2, UINT32_MAX);
}

TEST_F(DecoderTest, HeaderLimits) {
  Refused("count", Body(Of({1}), 0), 0);
  Refused("count", Body(Of({1}), 0), 65);
  Refused("body bytes", Bytes(11));
  Refused("compression", Body(Of({1}), 0, 6, 3));
  Refused("block shift", Body(Of({1}), 0, 5));
  Refused("block shift", Body(Of({1}), 0, 9));
  Bytes body = Body(Of({1}), 0);
  for (const std::byte flags : {std::byte{1}, std::byte{2}}) {
    body[2] = flags;
    Refused("flags", body);
  }
  body[0] = std::byte{1};
  Refused("flags", body);
  body[2] = std::byte{1};
  Refused("body bytes", body);
  body = Body(Of({1}), 0);
  // Both are bounded by the records, so that a short frame can not make the backup expand much.
  for (const uint32_t records : {1u, kMaxCodedPages}) {
    StoreLe32(body.data() + 4, records * uint32_t{kPageBytes} + 1);
    Refused("literal bytes", body, records);
    StoreLe32(body.data() + 4, 0);
    StoreLe32(body.data() + 8, records * uint32_t{kPageBytes} + 1);
    Refused("directory bytes", body, records);
    StoreLe32(body.data() + 8, 1);
  }
  StoreLe32(body.data() + 8, 2);
  Refused("content bytes", body);
}

TEST_F(DecoderTest, EverythingMustBeUsed) {
  Refused("directory bytes left", Body(Of({1, 1}), 0));
  Refused("literal bytes left", Body(Of({1}), 1));
  Refused("directory", Body(Of({1}), 0), 2);
  Refused("literals", Body(Of({0}), kPageBytes - 1));
}

TEST_F(DecoderTest, VarintLimits) {
  Refused("varint", Body(Of({2, 0, 0xff, 0xff, 0xff, 0xff, 0x1f}), 0));
  Refused("varint", Body(Of({2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0}), 0));
  Refused("same-as domain", Body(Of({2, 0x80, 0x80, 0x08, 0}), 0));
}

TEST_F(DecoderTest, PatchLimits) {
  Refused("parts", Body(Of({3, 0}), 0));
  Refused("parts", Body(Of({3, 16}), 0));
  // Copies: number, first block behind the one before, blocks, both ends, domain.
  Refused("copies", Body(Of({3, kPatchCopies, 0}), 0));
  Refused("copies", Body(Of({3, kPatchCopies, 17}), 0, 8));
  Refused("copy's blocks", Body(Of({3, kPatchCopies, 1, 0, 0, 0, 0, 0}), 0));
  Refused("copy's end", Body(Of({3, kPatchCopies, 1, 15, 2, 0, 0, 0}), 0, 8));
  Refused("copy's end", Body(Of({3, kPatchCopies, 1, 0, 2, 15, 0, 0}), 0, 8));
  Refused("copy's first block", Body(Of({3, kPatchCopies, 2, 0, 2, 0, 0, 0, 1, 1, 0, 0, 0}), 0));
  Refused("copy's domain", Body(Of({3, kPatchCopies, 1, 0, 1, 0, 0x80, 0x80, 4, 0}), 0));
  // Masks: empty, and over parts before.
  Refused("zero blocks", Body(Of({3, kPatchZeros, 0, 0}), 0, 8));
  Refused("changed blocks", Body(Of({3, kPatchZeros | kPatchBlocks, 4, 0, 4, 0}), 256, 8));
  Refused("zero blocks", Body(Of({3, kPatchCopies | kPatchZeros, 1, 0, 3, 0, 0, 0, 4, 0}), 0, 8));
  // Runs: number, end.
  Refused("runs", Body(Of({3, kPatchRuns, 0}), 0));
  Refused("runs", Body(Of({3, kPatchRuns, 0x81, 4}), 0));
  Refused("run's end", Body(Of({3, kPatchRuns, 1, 0xff, 0x1f, 1}), 2));
  Refused("run's end", Body(Of({3, kPatchRuns, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}), 2));
}

TEST_F(DecoderTest, CompressedContentMustBeWhole) {
  TestPair pair({64}, {.cache_pages = 64});
  for (uint32_t gfn = 0; gfn < 40; ++gfn) {
    std::memset(pair.Write(0, gfn), static_cast<int>(gfn + 1), kPageBytes);
  }
  for (const Compression method : {Compression::kLz4, Compression::kZstd}) {
    for (const bool packing : {false, true}) {
      const std::vector<TestFrame> frames =
          pair.Encode({.compression = method, .packing = packing});
      pair.Fail();
      ASSERT_EQ(frames.size(), 1u);
      const TestFrame& frame = frames[0];
      ASSERT_EQ(Decode(frame.body, frame.records, frame.first_gfn), "");
      EXPECT_EQ(records_, 40u);
      for (size_t keep = packing ? kPackedHeaderBytes : kCodedHeaderBytes; keep < frame.body.size();
           keep += 7) {
        const Bytes cut(frame.body.begin(), frame.body.begin() + static_cast<long>(keep));
        Refused("compressed bytes", cut, frame.records, frame.first_gfn);
      }
      Bytes longer = frame.body;
      longer.resize(longer.size() + 5);
      Refused("compressed bytes", longer, frame.records, frame.first_gfn);
    }
  }
}

// One record with a run of 69 bytes: a stretch that is packed, and five more.
Bytes PackedRun(uint16_t mask, size_t words, size_t tail) {
  Bytes content(2 + words * 4 + tail, std::byte{9});
  StoreLe16(content.data(), mask);
  const size_t packed_bytes = content.size();
  const Bytes directory = Of({3, kPatchRuns, 1, 0, 68});
  content.insert(content.end(), directory.begin(), directory.end());
  Bytes body(kPackedHeaderBytes + content.size());
  ByteWriter header(body);
  header.PutU8(static_cast<uint8_t>(Compression::kLz4));
  header.PutU8(6);
  header.PutU16(kPackedFlag);
  header.PutU32(69);
  header.PutU32(static_cast<uint32_t>(directory.size()));
  header.PutU32(static_cast<uint32_t>(packed_bytes));
  Compressor compressor;
  body.resize(
      kPackedHeaderBytes +
      compressor.Compress(Compression::kLz4, content, std::span(body).subspan(kPackedHeaderBytes)));
  return body;
}

TEST_F(DecoderTest, PackedLiteralsMustBeWhatTheirMasksSay) {
  EXPECT_EQ(Decode(PackedRun(0xffff, 16, 5)), "");
  EXPECT_EQ(Decode(PackedRun(0x0fff, 12, 5)), "");
  EXPECT_EQ(page_.literals[47], std::byte{9});
  EXPECT_EQ(page_.literals[48], std::byte{0});
  EXPECT_EQ(page_.literals[68], std::byte{9});
  Refused("packed literal bytes", PackedRun(0xffff, 15, 5));
  Refused("packed literal bytes", PackedRun(0x0fff, 13, 5));
  Refused("packed literal bytes", PackedRun(0xffff, 16, 4));
  // More than 69 bytes can be packed to.
  Refused("packed literal bytes", PackedRun(0xffff, 16, 6));
}

// Whatever is flipped: an error, or records that keep the rules; the sanitizers watch.
TEST_F(DecoderTest, MutatedFramesAreSurvived) {
  TestPair pair({64}, {.cache_pages = 64});
  Random random(3);
  for (uint32_t gfn = 0; gfn < 40; ++gfn) random.Fill({pair.Write(0, gfn), kPageBytes});
  pair.Replicate({});
  for (uint32_t gfn = 0; gfn < 40; ++gfn) {
    for (int i = 0; i < 20; ++i) pair.Write(0, gfn)[random.Below(kPageBytes)] = std::byte{1};
  }
  std::memcpy(pair.Write(0, 50), pair.primary[0]->Page(7), kPageBytes);
  for (uint8_t method = 0; method < kCompressions; ++method) {
    const std::vector<TestFrame> frames =
        pair.Encode({.compression = static_cast<Compression>(method)});
    pair.Fail();
    for (const TestFrame& frame : frames) {
      if (frame.plain) continue;
      for (int round = 0; round < 300; ++round) {
        Bytes body = frame.body;
        for (uint64_t i = random.Below(4) + 1; i > 0; --i) {
          body[random.Below(body.size())] = static_cast<std::byte>(random.Next());
        }
        Decode(body, frame.records, frame.first_gfn);
        EXPECT_LE(records_, frame.records);
      }
    }
  }
}

TEST(EpochPageSet, NoPageIsWrittenAndReferredTo) {
  const uint64_t counts[] = {100, 200};
  EpochPageSet set(counts);
  set.Begin();
  EXPECT_TRUE(set.AddWritten(0, 10, 20));
  EXPECT_FALSE(set.AddSource(0, 29));
  EXPECT_TRUE(set.AddSource(0, 30));
  EXPECT_TRUE(set.AddSource(1, 29));
  EXPECT_FALSE(set.AddWritten(0, 25, 6));
  EXPECT_FALSE(set.AddWritten(1, 29, 1));
  EXPECT_FALSE(set.AddSource(0, 100));
  EXPECT_FALSE(set.AddSource(2, 0));
  set.Begin();
  EXPECT_TRUE(set.AddSource(0, 29));
  EXPECT_TRUE(set.AddWritten(0, 30, 70));
  EXPECT_EQ(set.memory_bytes(), 2 * (2 + 4) * 12u);
}

}  // namespace
}  // namespace haven
