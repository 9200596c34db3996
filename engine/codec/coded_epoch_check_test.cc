// SPDX-License-Identifier: Apache-2.0
//
// Coded frames between others, as the validator of an epoch sees them.
#include "engine/codec/coded_epoch_check.h"

#include <string>
#include <vector>

#include "engine/codec/codec_testing.h"
#include "engine/replica/chunk_writer.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/features.h"
#include "engine/replica/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBlocksBit = static_cast<uint64_t>(Feature::kChangedBlocks);
constexpr uint64_t kSameBit = static_cast<uint64_t>(Feature::kSameAs);
constexpr uint64_t kCompressionBit = static_cast<uint64_t>(Feature::kCompression);

CodedPage Zero(uint32_t gfn) { return MakePage(PageKind::kZero, gfn); }

CodedPage Copy(uint32_t gfn, uint16_t domain, uint32_t source) {
  CodedPage page = MakePage(PageKind::kPatch, gfn);
  page.copy_count = 1;
  page.copies[0] = {.first = 2, .blocks = 3, .from = 1, .domain = domain, .gfn = source};
  return page;
}

CodedPage ZeroBlock(uint32_t gfn) {
  CodedPage page = MakePage(PageKind::kPatch, gfn);
  page.zeros = 1;
  return page;
}

// Two guests; the first has a hole at 40 and ends at 100, the second has 1000 frames.
class CodedEpochCheckTest : public ::testing::Test {
 protected:
  explicit CodedEpochCheckTest(uint64_t features = kCodecFeatures)
      : first_(MakeGuest(100, {40})),
        second_(MakeGuest(1000)),
        check_(std::vector<const GuestMemory*>{&first_, &second_}, features),
        validator_(std::vector<EpochTarget>{{.memory = &first_, .max_state_bytes = 10},
                                            {.memory = &second_, .max_state_bytes = 10}},
                   &check_) {
    Begin();
  }

  void Begin() {
    index_ = 0;
    validator_.Begin(1, 1, 2, EpochKind::kSync);
  }

  // Adds one chunk of one frame.
  absl::Status Frame(uint16_t domain, const std::vector<CodedPage>& pages) {
    const std::vector<std::byte> body = MakeCodedBody(6, pages, {});
    return Chunk([&](ChunkWriter& writer) {
      return writer.AppendCoded(domain, pages.front().gfn, static_cast<uint32_t>(pages.size()),
                                body);
    });
  }
  absl::Status ZeroRun(uint16_t domain, Gfn first, uint32_t pages) {
    return Chunk([&](ChunkWriter& writer) { return writer.AppendZeroRun(domain, first, pages); });
  }
  template <typename Fill>
  absl::Status Chunk(const Fill& fill) {
    std::vector<std::byte> slot(kMinSlotBytes);
    ChunkWriter writer(slot);
    HAVEN_CHECK(fill(writer));
    writer.Finish({.session = 1, .link = 1, .epoch = 2, .kind = EpochKind::kSync, .index = index_});
    return validator_.AddChunk(slot, index_++);
  }

  void ExpectRefused(const absl::Status& status, const char* text) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    Begin();
  }

  const GuestMemory first_;
  const GuestMemory second_;
  CodedEpochCheck check_;
  EpochValidator validator_;
  uint32_t index_ = 0;
};

TEST_F(CodedEpochCheckTest, GoodFramesCountTheirPages) {
  EXPECT_TRUE(Frame(0, {Zero(3), SamePage(7, 1, 900), Copy(30, 0, 8)}).ok());
  EXPECT_TRUE(ZeroRun(0, 31, 4).ok());
  EXPECT_TRUE(Frame(1, {Copy(3, 0, 99), ZeroBlock(5)}).ok());
  EXPECT_EQ(validator_.totals().page_count, 3u + 4 + 2);
}

TEST_F(CodedEpochCheckTest, FramesAndRunsAscend) {
  EXPECT_TRUE(Frame(0, {Zero(3), Zero(20)}).ok());
  ExpectRefused(ZeroRun(0, 20, 1), "first frame number is 20, must be ascending");
  EXPECT_TRUE(Frame(0, {Zero(3), Zero(20)}).ok());
  ExpectRefused(Frame(0, {Zero(10)}), "first frame number is 10, must be ascending");
  EXPECT_TRUE(Frame(1, {Zero(3)}).ok());
  ExpectRefused(Frame(0, {Zero(50)}), "domain is 0, must be ascending");
}

TEST_F(CodedEpochCheckTest, PagesAndSourcesAreRam) {
  ExpectRefused(Frame(0, {Zero(39), Zero(40)}), "frame number is 40, must be RAM of domain 0");
  ExpectRefused(Frame(0, {Zero(100)}), "frame number is 100, must be RAM of domain 0");
  ExpectRefused(Frame(2, {Zero(1)}), "domain is 2, must be below 2");
  ExpectRefused(Frame(1, {SamePage(1, 0, 40)}), "same-as is 40, must be RAM of domain 0");
  ExpectRefused(Frame(1, {SamePage(1, 2, 3)}), "same-as is 3, must be RAM of domain 2");
  ExpectRefused(Frame(1, {Copy(1, 0, 100)}), "source of a copy is 100, must be RAM of domain 0");
}

TEST_F(CodedEpochCheckTest, NoPageIsBothWrittenAndASource) {
  // Written before, by a run and by a coded page.
  EXPECT_TRUE(ZeroRun(0, 10, 5).ok());
  ExpectRefused(Frame(0, {SamePage(20, 0, 14)}), "refers to a page that the epoch writes");
  EXPECT_TRUE(Frame(0, {Zero(10)}).ok());
  ExpectRefused(Frame(1, {Copy(20, 0, 10)}), "refers to a page that the epoch writes");
  // Written afterwards.
  EXPECT_TRUE(Frame(0, {Copy(5, 1, 70)}).ok());
  ExpectRefused(ZeroRun(1, 60, 20), "must be that of pages to which no coded page refers");
  EXPECT_TRUE(Frame(0, {Copy(5, 1, 70)}).ok());
  ExpectRefused(Frame(1, {Zero(70)}), "refers to");
  // Itself.
  ExpectRefused(Frame(0, {Copy(5, 0, 5)}), "refers to");
  // Of the epoch before: forgotten.
  EXPECT_TRUE(Frame(0, {Copy(5, 1, 70)}).ok());
  Begin();
  EXPECT_TRUE(Frame(1, {Zero(70)}).ok());
}

TEST_F(CodedEpochCheckTest, BadBodiesAreNamed) {
  const auto body = [](std::vector<std::byte> bytes) {
    return [bytes = std::move(bytes)](ChunkWriter& writer) {
      return writer.AppendCoded(0, 3, 1, bytes);
    };
  };
  ExpectRefused(Chunk(body(std::vector<std::byte>(5))), "body bytes is 5");
  std::vector<std::byte> cut = MakeCodedBody(6, {Zero(3)}, {});
  cut.pop_back();
  ExpectRefused(Chunk(body(cut)), "content bytes is 0");
  ExpectRefused(Chunk([](ChunkWriter& writer) {
                  return writer.AppendCoded(0, 3, 2, MakeCodedBody(6, {Zero(3)}, {}));
                }),
                "directory is 0, must be longer");
}

class BlocksOnlyTest : public CodedEpochCheckTest {
 protected:
  BlocksOnlyTest() : CodedEpochCheckTest(kBlocksBit) {}
};
class SameOnlyTest : public CodedEpochCheckTest {
 protected:
  SameOnlyTest() : CodedEpochCheckTest(kSameBit) {}
};
class CompressionOnlyTest : public CodedEpochCheckTest {
 protected:
  CompressionOnlyTest() : CodedEpochCheckTest(kCompressionBit) {}
};

TEST_F(BlocksOnlyTest, ReferencesNeedTheirFeature) {
  EXPECT_TRUE(Frame(0, {Zero(3), ZeroBlock(4)}).ok());
  Begin();
  ExpectRefused(Frame(0, {SamePage(3, 0, 9)}), "same-as was not agreed on");
  ExpectRefused(Frame(0, {Copy(3, 0, 9)}), "same-as was not agreed on");
  std::vector<std::byte> packed = MakeCodedBody(6, {Zero(3)}, {});
  packed[0] = std::byte{1};
  ExpectRefused(Chunk([&](ChunkWriter& writer) { return writer.AppendCoded(0, 3, 1, packed); }),
                "compression was not agreed on");
}

TEST_F(CompressionOnlyTest, PackedLiteralsNeedTheirFeature) {
  std::vector<std::byte> packed(kPackedHeaderBytes);
  packed[0] = std::byte{1};
  packed[1] = std::byte{6};
  packed[2] = std::byte{kPackedFlag};
  ExpectRefused(Chunk([&](ChunkWriter& writer) { return writer.AppendCoded(0, 3, 1, packed); }),
                "packed-literals was not agreed on");
}

TEST_F(SameOnlyTest, ChangedBlocksNeedTheirFeature) {
  EXPECT_TRUE(Frame(0, {Zero(3), SamePage(4, 1, 9), Copy(6, 0, 9)}).ok());
  Begin();
  ExpectRefused(Frame(0, {ZeroBlock(3)}), "changed-blocks was not agreed on");
}

TEST(CodedEpochCheckMemory, IsTwoBitsAPageAndTheDecoder) {
  const GuestMemory guest = MakeGuest(1 << 20);
  const std::vector<const GuestMemory*> memories = {&guest};
  const CodedEpochCheck check(memories, kCodecFeatures);
  EXPECT_LT(check.memory_bytes(), (size_t{1} << 20) * 2 / 8 * 3 / 2 + 2 * 1024 * 1024);
}

}  // namespace
}  // namespace haven
