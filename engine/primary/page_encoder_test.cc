// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/page_encoder.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/crc32c.h"
#include "engine/base/random.h"
#include "engine/replica/chunk.h"
#include "engine/replica/frame.h"
#include "engine/replica/layout.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr ChunkIdentity kIdentity{
    .session = 1, .link = 2, .epoch = 3, .kind = EpochKind::kCheckpoint, .index = 4};

// A slot with captured pages, and what must come out of it.
class EncoderTest : public ::testing::Test {
 protected:
  // Appends a run as the plan would, page i being zero if zeros[i] is '0'.
  void AddRun(Gfn first, absl::string_view zeros) {
    PageRun run{.first = first,
                .pages = static_cast<uint32_t>(zeros.size()),
                .slot_offset = used_ + static_cast<uint32_t>(kFrameHeaderBytes),
                .domain = 1};
    for (size_t i = 0; i < zeros.size(); ++i) {
      std::byte* page = slot_.data() + run.slot_offset + i * kPageBytes;
      std::memset(page, 0, kPageBytes);
      if (zeros[i] != '0') {
        // One byte anywhere makes the difference.
        page[random_.Below(kPageBytes)] = std::byte{1};
        std::memcpy(page + random_.Below(kPageBytes - 8), &first, 4);
      }
      pages_[first + i].assign(page, page + kPageBytes);
    }
    used_ = run.slot_offset + run.pages * static_cast<uint32_t>(kPageBytes);
    ASSERT_LE(used_, slot_.size());
    runs_.push_back(run);
  }

  // Encodes, then rebuilds the pages from the chunk alone and compares.
  EncodedSlot EncodeAndCheck() {
    const std::span<const std::byte> states[] = {state_, state_};
    const EncodedSlot encoded =
        EncodeSlot(slot_, {.runs = runs_, .fragments = fragments_, .states = states}, kIdentity);
    EXPECT_LE(encoded.totals.payload_bytes + kChunkHeaderBytes, slot_.size());

    ChunkHeader header;
    uint32_t crc = 0;
    EXPECT_TRUE(DecodeChunkHeader(slot_, &header, &crc).ok());
    EXPECT_EQ(header.identity, kIdentity);
    EXPECT_EQ(crc, encoded.totals.chunk_crc);
    EXPECT_EQ(header.frame_count, encoded.totals.frame_count);
    const std::span<const std::byte> payload = ChunkPayload(slot_, header);
    EXPECT_EQ(header.payload_crc, Crc32c(payload));

    std::map<Gfn, std::vector<std::byte>> rebuilt;
    std::vector<std::byte> state;
    uint32_t zero_pages = 0;
    FrameCursor cursor(payload);
    Frame frame;
    layout_.clear();
    while (cursor.Next(&frame)) {
      layout_ += frame.type == FrameType::kRawRun    ? "r"
                 : frame.type == FrameType::kZeroRun ? "z"
                                                     : "s";
      layout_ += std::to_string(frame.count) + " ";
      if (frame.type == FrameType::kState) {
        state.insert(state.end(), frame.body.begin(), frame.body.end());
        continue;
      }
      for (uint32_t i = 0; i < frame.count; ++i) {
        std::vector<std::byte>& page = rebuilt[frame.first_gfn() + i];
        EXPECT_TRUE(page.empty());
        page.resize(kPageBytes);
        if (frame.type == FrameType::kZeroRun) {
          ++zero_pages;
        } else {
          std::memcpy(page.data(), frame.body.data() + i * kPageBytes, kPageBytes);
        }
      }
    }
    EXPECT_TRUE(cursor.status().ok()) << cursor.status();
    EXPECT_EQ(rebuilt, pages_);
    EXPECT_EQ(encoded.totals.page_count, pages_.size());
    EXPECT_EQ(encoded.zero_pages, zero_pages);
    if (!fragments_.empty()) {
      EXPECT_EQ(state, state_);
    }
    return encoded;
  }

  Random random_{1};
  std::vector<std::byte> slot_ = std::vector<std::byte>(kMinSlotBytes, std::byte{0xee});
  uint32_t used_ = kChunkHeaderBytes;
  std::vector<PageRun> runs_;
  std::vector<StateFragment> fragments_;
  std::vector<std::byte> state_;
  std::map<Gfn, std::vector<std::byte>> pages_;
  std::string layout_;
};

TEST_F(EncoderTest, NoZeroPagesStayWhereTheyAre) {
  AddRun(5, "111");
  AddRun(100, "1");
  const std::vector<std::byte> before(slot_.begin() + runs_[0].slot_offset, slot_.end());
  const EncodedSlot encoded = EncodeAndCheck();
  EXPECT_EQ(layout_, "r3 r1 ");
  EXPECT_EQ(encoded.totals.payload_bytes, 4 * kPageBytes + 2 * kFrameHeaderBytes);
  EXPECT_EQ(std::memcmp(before.data(), slot_.data() + runs_[0].slot_offset, 3 * kPageBytes), 0);
}

TEST_F(EncoderTest, AllZero) {
  AddRun(5, "000");
  AddRun(100, "0");
  const EncodedSlot encoded = EncodeAndCheck();
  EXPECT_EQ(layout_, "z3 z1 ");
  EXPECT_EQ(encoded.totals.payload_bytes, 2 * kFrameHeaderBytes);
}

TEST_F(EncoderTest, ZeroFirst) {
  AddRun(5, "0111");
  EncodeAndCheck();
  EXPECT_EQ(layout_, "z1 r3 ");
}

TEST_F(EncoderTest, ZeroLast) {
  AddRun(5, "1110");
  AddRun(20, "1");
  EncodeAndCheck();
  EXPECT_EQ(layout_, "r3 z1 r1 ");
}

TEST_F(EncoderTest, ZeroInTheMiddleSplitsTheRun) {
  AddRun(5, "110011");
  const EncodedSlot encoded = EncodeAndCheck();
  EXPECT_EQ(layout_, "r2 z2 r2 ");
  EXPECT_EQ(encoded.totals.payload_bytes, 4 * kPageBytes + 3 * kFrameHeaderBytes);
}

// Most headers per page that there can be, in a slot that is planned full.
TEST_F(EncoderTest, AlternatingInAFullSlot) {
  AddRun(0, "101010101010101");
  EncodeAndCheck();
  EXPECT_EQ(layout_, "r1 z1 r1 z1 r1 z1 r1 z1 r1 z1 r1 z1 r1 z1 r1 ");
}

TEST_F(EncoderTest, AlternatingFromZeroInAFullSlot) {
  AddRun(0, "010101010101010");
  EncodeAndCheck();
}

TEST_F(EncoderTest, StateFollowsThePagesThatMovedDown) {
  AddRun(0, "10101");
  state_.resize(1001);
  random_.Fill(state_);
  fragments_ = {{.domain = 0, .offset = 0, .bytes = 1000, .total = 1001},
                {.domain = 0, .offset = 1000, .bytes = 1, .total = 1001}};
  EncodeAndCheck();
  EXPECT_EQ(layout_, "r1 z1 r1 z1 r1 s1000 s1 ");
}

TEST_F(EncoderTest, StateAlone) {
  state_.resize(kMinSlotBytes - kChunkHeaderBytes - kFrameHeaderBytes);
  random_.Fill(state_);
  const uint32_t bytes = static_cast<uint32_t>(state_.size());
  fragments_ = {{.domain = 1, .offset = 0, .bytes = bytes, .total = bytes}};
  const EncodedSlot encoded = EncodeAndCheck();
  EXPECT_EQ(encoded.totals.payload_bytes + kChunkHeaderBytes, slot_.size());
  EXPECT_EQ(encoded.totals.page_count, 0u);
}

TEST_F(EncoderTest, TouchesNothingBehindTheSlot) {
  std::vector<std::byte> two_slots(2 * kMinSlotBytes, std::byte{0x5a});
  const PageRun run{.first = 0, .pages = 15, .slot_offset = 80, .domain = 0};
  std::memset(two_slots.data() + 80 + 4 * kPageBytes, 0, kPageBytes);
  EncodeSlot(std::span(two_slots).first(kMinSlotBytes),
             {.runs = std::span(&run, 1), .fragments = {}, .states = {}}, kIdentity);
  for (size_t i = kMinSlotBytes; i < two_slots.size(); ++i) {
    ASSERT_EQ(two_slots[i], std::byte{0x5a}) << i;
  }
}

TEST_F(EncoderTest, EveryPatternOfZeroPagesDecodesToTheSamePages) {
  for (uint32_t pattern = 0; pattern < 512; ++pattern) {
    SCOPED_TRACE(pattern);
    runs_.clear();
    pages_.clear();
    used_ = kChunkHeaderBytes;
    // Nine pages in up to three runs, cut by the pattern as well.
    std::string zeros;
    for (int i = 0; i < 9; ++i) zeros += (pattern >> i & 1) != 0 ? '1' : '0';
    const size_t first_cut = 1 + pattern % 4;
    const size_t second_cut = first_cut + 1 + pattern % 3;
    AddRun(10, zeros.substr(0, first_cut));
    AddRun(100, zeros.substr(first_cut, second_cut - first_cut));
    AddRun(1000, zeros.substr(second_cut));
    const uint32_t planned = used_;
    const EncodedSlot encoded = EncodeAndCheck();
    // Each dropped page frees more than its headers cost.
    EXPECT_LE(encoded.totals.payload_bytes + kChunkHeaderBytes + encoded.zero_pages * 4064u,
              planned);
  }
}

}  // namespace
}  // namespace haven
