// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/block_kernels.h"

#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(BlockKernels, AllVariantsAgreeWithTheObviousLoop) {
  Random random(1);
  ASSERT_GE(AvailableKernels().size(), 1u);
  std::vector<std::byte> room(2 * kPageBytes + 2);
  // Odd addresses: nothing may need alignment.
  std::byte* const before = room.data() + 1;
  std::byte* const after = room.data() + kPageBytes + 1;
  for (int round = 0; round < 300; ++round) {
    if (round % 2 == 0) random.Fill({before, kPageBytes});
    if (round % 2 == 1) std::memset(before, 0, kPageBytes);
    std::memcpy(after, before, kPageBytes);
    for (uint64_t i = random.Below(50); i > 0; --i) {
      after[random.Below(kPageBytes)] = static_cast<std::byte>(random.Below(3));
    }
    uint64_t changed = 0;
    uint64_t nonzero = 0;
    for (size_t i = 0; i < kPageBytes; ++i) {
      changed |= uint64_t{before[i] != after[i]} << (i / kLineBytes);
      nonzero |= uint64_t{after[i] != std::byte{0}} << (i / kLineBytes);
    }
    const uint64_t mask = random.Next();
    std::array<uint64_t, kPageLines> bytes{};
    for (size_t i = 0; i < kPageBytes; ++i) {
      bytes[i / kLineBytes] |= uint64_t{before[i] != after[i]} << (i % kLineBytes);
    }
    for (const BlockKernels* kernels : AvailableKernels()) {
      EXPECT_EQ(kernels->changed_lines(before, after), changed) << kernels->name;
      for (const uint64_t lines : {~uint64_t{0}, changed, changed & mask, uint64_t{0}}) {
        EXPECT_EQ(kernels->nonzero_lines(after, lines), nonzero & lines) << kernels->name;
      }
      std::array<uint64_t, kPageLines> masks{};
      kernels->changed_bytes(before, after, ~uint64_t{0}, masks.data());
      EXPECT_EQ(masks, bytes) << kernels->name;
      masks = {};
      kernels->changed_bytes(before, after, mask, masks.data());
      size_t next = 0;
      for (size_t line = 0; line < kPageLines; ++line) {
        if ((mask >> line & 1) != 0) {
          EXPECT_EQ(masks[next++], bytes[line]) << kernels->name;
        }
      }
      for (; next < kPageLines; ++next) EXPECT_EQ(masks[next], 0u) << kernels->name;
      std::vector<std::byte> copy(kPageBytes);
      EXPECT_EQ(kernels->copy_page(after, copy.data()), nonzero) << kernels->name;
      EXPECT_EQ(std::memcmp(copy.data(), after, kPageBytes), 0) << kernels->name;
    }
  }
}

TEST(BlockKernels, AllVariantsFillAPage) {
  Random random(3);
  const std::vector<uint64_t> masks = {0, 1, ~uint64_t{0}, uint64_t{1} << 63, random.Next()};
  for (const uint64_t lines : masks) {
    // Exactly as long as it must be: a byte read behind it is found by the sanitizer.
    std::vector<std::byte> literals(static_cast<size_t>(std::popcount(lines)) * kLineBytes);
    random.Fill(literals);
    std::vector<std::byte> expected(kPageBytes);
    size_t used = 0;
    for (size_t line = 0; line < kPageLines; ++line) {
      if ((lines >> line & 1) == 0) continue;
      std::memcpy(expected.data() + line * kLineBytes, literals.data() + used, kLineBytes);
      used += kLineBytes;
    }
    for (const BlockKernels* kernels : AvailableKernels()) {
      std::vector<std::byte> page(kPageBytes, std::byte{1});
      kernels->fill_lines(lines, literals.data(), page.data());
      EXPECT_EQ(page, expected) << kernels->name << " " << lines;
    }
  }
}

TEST(BlockKernels, MasksOfLinesAndBlocks) {
  Random random(2);
  for (int round = 0; round < 1000; ++round) {
    const uint64_t lines = random.Next() & random.Next() & random.Next();
    EXPECT_EQ(LinesToBlocks(lines, 6), lines);
    for (const unsigned shift : {7u, 8u}) {
      const unsigned per_block = 1u << (shift - 6);
      uint64_t blocks = 0;
      uint64_t back = 0;
      for (unsigned line = 0; line < 64; ++line) blocks |= (lines >> line & 1) << line / per_block;
      for (unsigned line = 0; line < 64; ++line) back |= (blocks >> line / per_block & 1) << line;
      EXPECT_EQ(LinesToBlocks(lines, shift), blocks);
      EXPECT_EQ(BlocksToLines(blocks, shift), back);
    }
  }
}

}  // namespace
}  // namespace haven
