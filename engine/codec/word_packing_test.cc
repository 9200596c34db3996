// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/word_packing.h"

#include <cstring>
#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using Bytes = std::vector<std::byte>;

// What the format says, word by word.
Bytes ObviouslyPacked(const Bytes& literals) {
  const size_t stretches = literals.size() / kPackedStretch;
  Bytes packed(stretches * 2);
  for (size_t at = 0; at < stretches * kPackedStretch; at += 4) {
    const Bytes word(literals.begin() + static_cast<long>(at),
                     literals.begin() + static_cast<long>(at) + 4);
    if (word == Bytes(4)) continue;
    packed[at / kPackedStretch * 2 + at % kPackedStretch / 32] |= std::byte{1} << (at % 32 / 4);
    packed.insert(packed.end(), word.begin(), word.end());
  }
  packed.insert(packed.end(), literals.begin() + static_cast<long>(stretches * kPackedStretch),
                literals.end());
  return packed;
}

Bytes RandomLiterals(Random& random, size_t bytes) {
  Bytes literals(bytes);
  const uint64_t every = 1 + random.Below(8);
  for (size_t at = 0; at < bytes; ++at) {
    if (at % 8 == 0 && random.Below(every) != 0) at += 7;
    if (at < bytes) literals[at] = static_cast<std::byte>(random.Next());
  }
  return literals;
}

Bytes Packed(const Bytes& literals, const WordPacker& packer) {
  Bytes room(kMaskRoom + literals.size());
  std::memcpy(room.data() + kMaskRoom, literals.data(), literals.size());
  const std::span<std::byte> packed = PackLiterals(std::span(room).subspan(kMaskRoom), packer);
  EXPECT_LE(packed.size(), MaxPackedBytes(literals.size()));
  return {packed.begin(), packed.end()};
}

// `slack`: what stands behind the packed bytes must not matter.
bool Unpack(Bytes packed, std::byte slack, Bytes* literals, const WordPacker& packer) {
  const size_t bytes = packed.size();
  packed.resize(bytes + kPackedSlack, slack);
  return UnpackLiterals(std::span(packed).first(bytes), *literals, packer);
}

TEST(WordPacking, AllVariantsDoWhatTheFormatSays) {
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    const Bytes literals = RandomLiterals(random, random.Below(round % 2 == 0 ? 200 : 9000));
    const Bytes expected = ObviouslyPacked(literals);
    for (const WordPacker* packer : AvailablePackers()) {
      SCOPED_TRACE(packer->name);
      ASSERT_EQ(Packed(literals, *packer), expected) << literals.size();
      for (const std::byte slack : {std::byte{0}, std::byte{0xff}}) {
        Bytes back(literals.size(), std::byte{7});
        ASSERT_TRUE(Unpack(expected, slack, &back, *packer));
        ASSERT_EQ(back, literals);
      }
    }
  }
}

TEST(WordPacking, TheLargestFrameFits) {
  const Bytes literals(kMaxLiteralBytes, std::byte{1});
  for (const WordPacker* packer : AvailablePackers()) {
    EXPECT_EQ(Packed(literals, *packer).size(), MaxPackedBytes(kMaxLiteralBytes));
  }
}

TEST(WordPacking, OtherSizesAreRefused) {
  Random random(2);
  const Bytes literals = RandomLiterals(random, 700);
  const Bytes packed = ObviouslyPacked(literals);
  for (const WordPacker* packer : AvailablePackers()) {
    Bytes back(literals.size());
    for (size_t bytes = 0; bytes < packed.size() + 70; ++bytes) {
      Bytes other = packed;
      other.resize(bytes);
      EXPECT_EQ(Unpack(other, std::byte{0}, &back, *packer), bytes == packed.size()) << bytes;
    }
    Bytes more = packed;
    for (size_t at = 0; at < 20; ++at) more[at] = std::byte{0xff};
    EXPECT_FALSE(Unpack(more, std::byte{0}, &back, *packer));
  }
}

}  // namespace
}  // namespace haven
